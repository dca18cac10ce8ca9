"""A model's files on this machine: found, made, or fetched."""

import shutil
from pathlib import Path

from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.builtin.family import tiny_model_dir
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import ModelMissing
from wan22_bridge.fetching import Fetching, FileState, check_files, fetch_model, read_manifest


def find_model(spec: ModelSpec, models_dir: Path) -> Path | None:
    """The diffusers folder of a model; None where it is not whole. A built-in one is made."""
    if spec.path is not None:
        return spec.path if (spec.path / "model_index.json").is_file() else None
    if not spec.is_fetched:
        return ensure_tiny_model(models_dir, spec.source_ref)
    folder = models_dir / spec.id
    manifest = read_manifest(folder)
    if manifest is None or spec.revision not in (None, manifest.commit):
        return None
    whole = set(check_files(folder, manifest, content=False).values()) <= {FileState.GOOD}
    return folder if whole else None


def ensure_model(
    spec: ModelSpec,
    models_dir: Path,
    progress: Fetching | None = None,
    *,
    cast: bool = False,
    check_content: bool = False,
) -> Path:
    """Finds the diffusers folder of a model, making or fetching what is missing.

    Args:
        spec: the model; with a path, the folder is expected there.
        models_dir: where this service keeps the models that it makes and fetches.
        progress: how far a fetch is; it can be stopped by it.
        cast: whether what is fetched in fp32 is cast to bf16.
        check_content: whether files that are there are read and hashed.

    Raises:
        ModelMissing: there is no such folder, or it is not in diffusers' format.
        DownloadFailed: it can't be fetched.
        Stopped: the fetch was stopped.
    """
    if spec.is_fetched:
        folder = models_dir / spec.id
        options = {"cast": cast, "check_content": check_content}
        fetch_model(spec.source_ref, spec.revision, folder, progress or Fetching(), **options)
        return folder
    found = find_model(spec, models_dir)
    if found is None:
        raise ModelMissing(
            f"The folder given for {spec.id} has no model_index.json.",
            suggestions=["Name a folder in diffusers' format: one that holds model_index.json and the components."],
        )
    return found


def remove_model(spec: ModelSpec, models_dir: Path) -> int:
    """Removes what was fetched or made of a model; returns how many bytes that were."""
    folder = models_dir / spec.id if spec.is_fetched else tiny_model_dir(models_dir, spec.source_ref)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder, ignore_errors=True)
    return size
