"""The tiny models as they lie beside this module, and the folders that they are served from. Imports no torch."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from wan22_bridge.files import fsync_directory, fsync_tree, locked

FAMILY = ("t2v", "i2v", "ti2v")
"""The members: one for each Wan2.2 model type."""
WEIGHTS = Path(__file__).parent / "weights"
"""Folders in the formats of diffusers and transformers; `README.md` there is their model card."""
BUILTIN_LORAS = WEIGHTS / "loras"
"""Made for the family."""
VAE_OF: Mapping[str, str] = {"t2v": "2.1", "i2v": "2.1", "ti2v": "2.2"}

_REVISION = "trained-1"
"""Part of the folder's name, so that a family of another version is never mistaken for this one."""


def find_parts(member: str, weights: Path = WEIGHTS) -> dict[str, Path]:
    """Every file and folder that a member's own folder holds, by its name there: what members share lies here once.

    Raises:
        ValueError: there is no such member.
    """
    if member not in FAMILY:
        raise ValueError(f"There is no tiny model {member!r}; the family is {', '.join(FAMILY)}.")
    shared = {name: weights / name for name in ("text_encoder", "tokenizer")}
    own = {path.name: path for path in (weights / member).iterdir()}
    return {**shared, "vae": weights / f"vae-{VAE_OF[member]}", **own}


def tiny_model_dir(models_dir: Path, member: str) -> Path:
    """The folder of one member below `models_dir`, whether it exists yet or not."""
    return models_dir / f"tiny-{member}-{_REVISION}"


def ensure_tiny_model(models_dir: Path, member: str) -> Path:
    """Puts one member together in diffusers' folder format unless it is there already.

    Safe to call from several processes at once: one does it, the others wait. A half-made folder is never
    seen under the final name.

    Returns:
        The folder, which `WanPipeline.from_pretrained` loads.

    Raises:
        ValueError: there is no such member.
    """
    parts = find_parts(member)
    folder = tiny_model_dir(models_dir, member)
    if folder.is_dir():
        return folder
    models_dir.mkdir(parents=True, exist_ok=True)
    with locked(models_dir / f".{folder.name}.lock"):
        if folder.is_dir():
            return folder
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=models_dir))
        try:
            for name, part in parts.items():
                copy = shutil.copytree if part.is_dir() else shutil.copy
                copy(part, made / name)
            fsync_tree(made)
            made.chmod(0o755)
            made.rename(folder)
            fsync_directory(models_dir)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    return folder
