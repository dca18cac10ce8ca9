"""The lock file: one JSON file that pins the repository, the commit and the hash of each file of several models."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import ConfigurationError, DownloadFailed
from wan22_bridge.fetching.manifest import Manifest
from wan22_bridge.files import atomic_path

LOCK_NAME = "models.lock"
"""Name of the lock file in the folder of the models."""
_VERSION = 1
_MAX_BYTES = 10_000_000
_COMMIT_CHARACTERS = 40


def write_lock(path: Path, manifests: Mapping[str, Manifest]) -> None:
    """Writes a lock file atomically.

    Args:
        path: Path of the file, which is replaced.
        manifests: The manifest of each model to pin, by the model's id.
    """
    models = {
        model_id: {"repository": manifest.repository, "commit": manifest.commit, "files": manifest.hashes}
        for model_id, manifest in sorted(manifests.items())
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"version": _VERSION, "models": models}, indent=1) + "\n", "utf-8")


def apply_lock(path: Path, specs: list[ModelSpec]) -> list[ModelSpec]:
    """Returns models as a lock file pins them. Models that are not downloaded stay as they are.

    Raises:
        ConfigurationError: The file can't be read, or it lacks a model, or has it from another repository or commit.
    """
    models = _read(path)
    return [_pin(path, spec, models.get(spec.id)) if spec.is_fetched else spec for spec in specs]


def check_locked(manifest: Manifest, locked_files: Mapping[str, str]) -> None:
    """Checks that the hub has the files that a lock file pins.

    Raises:
        DownloadFailed: A file differs, is missing, or is not pinned.
    """
    found = manifest.hashes
    if found == locked_files:
        return
    wrong = sorted(path for path in found.keys() | locked_files.keys() if found.get(path) != locked_files.get(path))
    raise DownloadFailed(
        f"{manifest.repository} at {manifest.commit} has other files than the lock file: {', '.join(wrong)[:200]}.",
        code="lock_mismatch",
        suggestions=[
            "Find out why the hub's files have changed. `wan22 models lock --update` accepts the present ones."
        ],
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES} bytes")
        data = json.loads(path.read_text("utf-8"))
        if data["version"] != _VERSION:
            raise ValueError(f"it has version {data['version']!r}, expected {_VERSION}")
        models: dict[str, Any] = data["models"]
        for entry in models.values():
            texts = [entry["repository"], entry["commit"], *entry["files"], *entry["files"].values()]
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("it holds something else than texts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigurationError(
            f"models_lock: {path} can't be read: {exc if isinstance(exc, ValueError) else type(exc).__name__}. "
            "`wan22 models lock` writes it.",
            param="models_lock",
        ) from exc
    return models


def _pin(path: Path, spec: ModelSpec, entry: Mapping[str, Any] | None) -> ModelSpec:
    if entry is None:
        raise _mismatch(path, f"has no model {spec.id!r}")
    if entry["repository"] != spec.source_ref:
        raise _mismatch(path, f"has {spec.id} from {entry['repository']}, but the config has {spec.source_ref}")
    is_commit = spec.revision is not None and len(spec.revision) == _COMMIT_CHARACTERS
    if is_commit and spec.revision != entry["commit"]:
        raise _mismatch(path, f"has {spec.id} at {entry['commit']}, but the config has revision {spec.revision}")
    return replace(spec, revision=entry["commit"], locked_files=entry["files"])


def _mismatch(path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"models_lock: {path} {problem}. Change the config, or write the file again with `wan22 models lock`.",
        param="models_lock",
    )
