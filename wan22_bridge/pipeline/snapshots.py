"""Snapshots: the state of the denoising loop in one durable file, from which another process can resume."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from wan22_bridge.errors import SnapshotRejected
from wan22_bridge.experts import Expert
from wan22_bridge.files import atomic_path
from wan22_bridge.hashing import hash_values
from wan22_bridge.reasons import find_reason
from wan22_bridge.types import GenerationParams

_FORMAT = "wan22-snapshot-1"
_FINGERPRINT = "wan22-fingerprint-1"
"""Version of `fingerprint`. Raise it when the default of a field of GenerationParams changes: fields that equal their
defaults are not hashed, so a snapshot made with the old default would be accepted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """State of the denoising loop between two steps.

    It holds no state of a random generator, because no step draws random numbers.
    """

    steps_done: int
    expert: Expert
    """The expert that ran the last step."""
    latents_BCTHW: torch.Tensor
    scheduler: dict[str, Any]
    """State of the sampler, as `samplers.sampler_state` returns it: plain values, tensors, and lists of them."""


def fingerprint(weights: str, params: GenerationParams) -> str:
    """Returns the identity of a computation: equal for the same weights, parameters and version of diffusers.

    A parameter that a later version adds with a default does not change it, so snapshots survive an upgrade.

    Args:
        weights: identifies the model's weights and its LoRAs'.
        params: the video's parameters.
    """
    return hash_values(_FINGERPRINT, diffusers.__version__, weights, params)


def write_snapshot(path: Path, snapshot: Snapshot, belongs_to: str) -> None:
    """Writes a snapshot atomically: `path` always holds the previous snapshot or this one, complete.

    Args:
        path: the snapshot's file.
        snapshot: the state to write.
        belongs_to: the `fingerprint` of the computation.

    Raises:
        OSError: the file can't be written, for example because the disk is full; `path` is unchanged.
    """
    tensors = {"latents": snapshot.latents_BCTHW.contiguous()}
    metadata = {
        "format": _FORMAT,
        "fingerprint": belongs_to,
        "expert": snapshot.expert.label,
        "steps_done": str(snapshot.steps_done),
        "scheduler": json.dumps(_flatten(snapshot.scheduler, "scheduler", tensors)),
    }
    metadata["digest"] = _digest(tensors, metadata)
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as exc:
            raise OSError(str(exc)) from exc


def read_snapshot(path: Path, belongs_to: str) -> Snapshot:
    """Reads the snapshot of a computation into CPU memory.

    Args:
        path: the snapshot's file.
        belongs_to: the `fingerprint` of the computation.

    Raises:
        SnapshotRejected: the file is damaged, belongs to another computation, or is not a snapshot.
        FileNotFoundError: there is no file at `path`.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as exc:
        raise SnapshotRejected(
            f"The snapshot {path.name} can't be read: {find_reason(exc)}.", code="snapshot_torn"
        ) from exc
    if metadata.get("format") != _FORMAT:
        raise SnapshotRejected(f"{path.name} is not a snapshot of the format {_FORMAT}.", code="snapshot_foreign")
    if metadata.pop("digest", None) != _digest(tensors, metadata):
        raise SnapshotRejected(f"The snapshot {path.name} is damaged.", code="snapshot_torn")
    if metadata["fingerprint"] != belongs_to:
        raise SnapshotRejected(
            f"The snapshot {path.name} belongs to another request, model or version of diffusers.",
            code="snapshot_foreign",
        )
    return Snapshot(
        steps_done=int(metadata["steps_done"]),
        expert=Expert[metadata["expert"].upper()],
        latents_BCTHW=tensors["latents"],
        scheduler=_unflatten(json.loads(metadata["scheduler"]), tensors),
    )


def _digest(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """Returns a checksum of a snapshot's content."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _flatten(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Returns a JSON value in which each tensor is replaced by its name, and adds the tensors to `tensors`."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value.contiguous().clone()
        return {"tensor": name}
    if isinstance(value, list):
        return {"list": [_flatten(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": {key: _flatten(item, f"{name}.{key}", tensors) for key, item in value.items()}}
    return {"plain": value}


def _unflatten(value: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """Reverses `_flatten`."""
    [(kind, content)] = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "list":
        return [_unflatten(item, tensors) for item in content]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content.items()}
    return content
