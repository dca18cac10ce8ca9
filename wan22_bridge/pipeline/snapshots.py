"""A generation that can go on in another process: what the denoising loop has, as one durable file."""

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
from wan22_bridge.types import GenerationParams

_FORMAT = "wan22-snapshot-1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The loop between two steps. No step draws random numbers, so there is no generator's state in it."""

    steps_done: int
    expert: Expert
    """The expert that made the last step."""
    latents_BCTHW: torch.Tensor
    scheduler: dict[str, Any]
    """As `schedulers.scheduler_state` gives it: plain values, tensors, and lists of them."""


def fingerprint(weights: str, params: GenerationParams) -> str:
    """Names the computation that a snapshot belongs to: equal for the same weights, request and diffusers."""
    parts = [_FORMAT, diffusers.__version__, weights, params.to_dict()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def write_snapshot(path: Path, snapshot: Snapshot, belongs_to: str) -> None:
    """Writes a snapshot: `path` holds the former or this one, whole, whatever happens.

    Args:
        path: the file.
        snapshot: what to write.
        belongs_to: the computation's `fingerprint`.

    Raises:
        OSError: the disk is full or broken; `path` is as it was.
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
    """Reads a snapshot of the computation with the fingerprint `belongs_to`, onto the CPU.

    Raises:
        SnapshotRejected: it is torn, of another computation, or no snapshot at all.
        FileNotFoundError: there is none.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as exc:
        raise SnapshotRejected(f"The snapshot {path.name} can't be read: {exc}.", code="snapshot_torn") from exc
    if metadata.get("format") != _FORMAT:
        raise SnapshotRejected(f"{path.name} is no snapshot of this version.", code="snapshot_foreign")
    if metadata.pop("digest", None) != _digest(tensors, metadata):
        raise SnapshotRejected(f"The snapshot {path.name} is damaged.", code="snapshot_torn")
    if metadata["fingerprint"] != belongs_to:
        raise SnapshotRejected(
            f"The snapshot {path.name} belongs to another request, model or version.", code="snapshot_foreign"
        )
    return Snapshot(
        steps_done=int(metadata["steps_done"]),
        expert=Expert[metadata["expert"].upper()],
        latents_BCTHW=tensors["latents"],
        scheduler=_unflatten(json.loads(metadata["scheduler"]), tensors),
    )


def _digest(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _flatten(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Replaces each tensor by its name in `tensors`."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value.contiguous().clone()
        return {"tensor": name}
    if isinstance(value, list):
        return {"list": [_flatten(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": {key: _flatten(item, f"{name}.{key}", tensors) for key, item in value.items()}}
    return {"plain": value}


def _unflatten(value: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    [(kind, content)] = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "list":
        return [_unflatten(item, tensors) for item in content]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content.items()}
    return content
