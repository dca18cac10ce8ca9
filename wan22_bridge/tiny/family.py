"""Where the tiny models lie, and making them once. Imports no torch: a process that only asks stays small."""

import shutil
import tempfile
from pathlib import Path

from wan22_bridge.files import fsync_directory, fsync_tree, locked

FAMILY = ("t2v", "i2v", "ti2v")
"""The members: one for each Wan2.2 model type."""

_REVISION = "random-4"
"""Part of the folder's name, so that a family made by another version is never mistaken for this one."""


def tiny_model_dir(models_dir: Path, member: str) -> Path:
    """The folder of one member below `models_dir`, whether it exists yet or not.

    Raises:
        ValueError: there is no such member.
    """
    if member not in FAMILY:
        raise ValueError(f"There is no tiny model {member!r}; the family is {', '.join(FAMILY)}.")
    return models_dir / f"tiny-{member}-{_REVISION}"


def ensure_tiny_model(models_dir: Path, member: str) -> Path:
    """Makes one member in diffusers' folder format unless it exists already.

    Safe to call from several processes at once: one makes it, the others wait. A half-made folder is never
    seen under the final name.

    Returns:
        The folder, which `WanPipeline.from_pretrained` loads.

    Raises:
        ValueError: there is no such member.
    """
    folder = tiny_model_dir(models_dir, member)
    if folder.is_dir():
        return folder
    models_dir.mkdir(parents=True, exist_ok=True)
    with locked(models_dir / f".{folder.name}.lock"):
        if folder.is_dir():
            return folder
        from wan22_bridge.kernels import use_fast_kernels
        from wan22_bridge.magnitudes import write_ratios
        from wan22_bridge.previews import fit_factors, write_factors
        from wan22_bridge.tiny.building import build_pipeline
        from wan22_bridge.tiny.calibration import calibrate_tiny_model

        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=models_dir))
        try:
            pipeline = build_pipeline(member)
            pipeline.save_pretrained(part)
            use_fast_kernels(pipeline.vae)
            write_factors(part, fit_factors(pipeline.vae))
            write_ratios(part, calibrate_tiny_model(member, part))
            fsync_tree(part)
            part.chmod(0o755)
            part.rename(folder)
            fsync_directory(models_dir)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return folder
