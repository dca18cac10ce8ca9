"""Packaged weights of the tiny models, and the folders that are assembled from them. Imports no torch."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from wan22_bridge.files import fsync_directory, fsync_tree, locked

FAMILY = ("t2v", "i2v", "ti2v")
"""Members of the family, one for each Wan2.2 model type."""
WEIGHTS = Path(__file__).parent / "weights"
"""Folders in the formats of diffusers and transformers, with a model card in `README.md`."""
BUILTIN_LORAS = WEIGHTS / "loras"
"""Folder of the LoRAs for the tiny models."""
VAE_OF: Mapping[str, str] = {"t2v": "2.1", "i2v": "2.1", "ti2v": "2.2"}
"""VAE version of each member."""

_REVISION = "trained-1"
"""Revision of the weights. It is part of the folder's name, so that different revisions never share a folder."""


def find_parts(member: str, weights: Path = WEIGHTS) -> dict[str, Path]:
    """Returns the packaged source of each file and folder in a member's folder, by its name there.

    Members share the text encoder, the tokenizer and the VAEs, which are packaged once.

    Raises:
        ValueError: The member does not exist.
    """
    if member not in FAMILY:
        raise ValueError(f"There is no tiny model {member!r}: expected {', '.join(FAMILY)}.")
    shared = {name: weights / name for name in ("text_encoder", "tokenizer")}
    own = {path.name: path for path in (weights / member).iterdir()}
    return {**shared, "vae": weights / f"vae-{VAE_OF[member]}", **own}


def tiny_model_dir(models_dir: Path, member: str) -> Path:
    """Returns the path of a member's folder below `models_dir`. The folder may not exist yet."""
    return models_dir / f"tiny-{member}-{_REVISION}"


def ensure_tiny_model(models_dir: Path, member: str) -> Path:
    """Assembles the folder of one member in diffusers' format, unless it exists.

    Several processes may call this at the same time: one assembles the folder, and the others wait. The folder gets
    its final name only once it is complete.

    Returns:
        A folder that `WanPipeline.from_pretrained` loads.

    Raises:
        ValueError: The member does not exist.
    """
    parts = find_parts(member)
    folder = tiny_model_dir(models_dir, member)
    if folder.is_dir():
        return folder
    models_dir.mkdir(parents=True, exist_ok=True)
    with locked(models_dir / f".{folder.name}.lock"):
        if folder.is_dir():
            return folder
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=models_dir))
        try:
            for name, part in parts.items():
                copy = shutil.copytree if part.is_dir() else shutil.copy
                copy(part, temporary / name)
            fsync_tree(temporary)
            temporary.chmod(0o755)
            temporary.rename(folder)
            fsync_directory(models_dir)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return folder
