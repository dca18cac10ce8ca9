"""Model folders on this machine, which are found, assembled or fetched."""

import shutil
from pathlib import Path

from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.builtin.family import tiny_model_dir
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import ModelMissing
from wan22_bridge.fetching import (
    FetchProgress,
    FileState,
    Manifest,
    check_files,
    fetch_model,
    has_damage,
    is_verified,
    read_manifest,
)


def find_model(spec: ModelSpec, models_dir: Path) -> Path | None:
    """Returns the diffusers folder of a model, or None if it is incomplete. Built-in models are assembled.

    With a lock file, a fetched model whose files have changed since they were hashed is incomplete too: `ensure_model`
    hashes them.
    """
    if spec.path is not None:
        return spec.path if (spec.path / "model_index.json").is_file() else None
    if not spec.is_fetched:
        return ensure_tiny_model(models_dir, spec.source_ref)
    folder = models_dir / spec.id
    manifest = read_model_manifest(spec, models_dir)
    if manifest is None or has_damage(folder):
        return None
    complete = set(check_files(folder, manifest, content=False).values()) <= {FileState.GOOD}
    if spec.locked_files is not None:
        complete = complete and all(is_verified(folder, file) for file in manifest.files)
    return folder if complete else None


def read_model_manifest(spec: ModelSpec, models_dir: Path) -> Manifest | None:
    """Returns the manifest of a fetched model, or None if there is none, or one of other files than those wanted."""
    manifest = read_manifest(models_dir / spec.id)
    if manifest is None or spec.revision not in (None, manifest.commit):
        return None
    return manifest if spec.locked_files in (None, manifest.hashes) else None


def is_corrupted(spec: ModelSpec, models_dir: Path) -> bool:
    """Returns whether a file of a fetched model is there, but not as it was downloaded.

    A file of the right size with another content counts once a check of the hashes has marked the folder.
    """
    folder = models_dir / spec.id
    if not spec.is_fetched or has_damage(folder):
        return spec.is_fetched
    manifest = read_model_manifest(spec, models_dir)
    if manifest is None:
        return False
    return FileState.WRONG_SIZE in check_files(folder, manifest, content=False).values()


def ensure_model(
    spec: ModelSpec,
    models_dir: Path,
    progress: FetchProgress | None = None,
    *,
    cast: bool = False,
    check_content: bool = False,
) -> Path:
    """Returns the diffusers folder of a model, after assembling or fetching what is missing.

    Args:
        spec: The model. If it has a path, the folder has to exist there.
        models_dir: Folder of the models that this service assembles and fetches.
        progress: Receives the progress of a fetch, and can stop it.
        cast: Whether to cast fetched fp32 weights to bf16.
        check_content: Whether to hash existing files of a fetched model.

    Raises:
        ModelMissing: The folder at the model's path does not exist, or is not in diffusers' format.
        DownloadFailed: The model could not be fetched.
        FetchStopped: The fetch was stopped.
    """
    if spec.is_fetched:
        folder = models_dir / spec.id
        fetch_model(
            spec.source_ref,
            spec.revision,
            folder,
            progress or FetchProgress(),
            cast=cast,
            check_content=check_content,
            locked_files=spec.locked_files,
        )
        return folder
    found = find_model(spec, models_dir)
    if found is None:
        raise ModelMissing(
            f"The configured folder of {spec.id} has no model_index.json.",
            suggestions=[
                "Set path to a folder in diffusers' format, with model_index.json and the components' folders."
            ],
        )
    return found


def remove_model(spec: ModelSpec, models_dir: Path) -> int:
    """Removes the fetched or assembled folder of a model, and returns its size in bytes."""
    folder = models_dir / spec.id if spec.is_fetched else tiny_model_dir(models_dir, spec.source_ref)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder, ignore_errors=True)
    return size
