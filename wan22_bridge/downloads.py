"""Making a model's files available on this machine."""

from pathlib import Path

from wan22_bridge.catalogue import ModelSpec, SourceKind
from wan22_bridge.errors import ModelMissing
from wan22_bridge.tiny import ensure_tiny_model


def ensure_model(spec: ModelSpec, models_dir: Path) -> Path:
    """Finds the diffusers folder of a model, making a built-in one where it is missing.

    Args:
        spec: the model; with a path, the folder is expected there.
        models_dir: where this service keeps the models that it makes.

    Raises:
        ModelMissing: there is no such folder, or it is not in diffusers' format.
    """
    if spec.path is None and spec.source_kind is SourceKind.BUILTIN:
        return ensure_tiny_model(models_dir, spec.source_ref)
    if spec.path is None:
        raise ModelMissing(
            f"The files of {spec.id} are not on this machine.",
            suggestions=[f"Fetch them with `hf download {spec.source_ref} --local-dir DIR`, and give DIR as its path."],
        )
    if not (spec.path / "model_index.json").is_file():
        raise ModelMissing(
            f"The folder given for {spec.id} has no model_index.json.",
            suggestions=["Name a folder in diffusers' format: one that holds model_index.json and the components."],
        )
    return spec.path
