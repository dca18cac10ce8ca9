"""Data that the code reads and people edit: the models, as YAML."""

from importlib.resources import files
from importlib.resources.abc import Traversable


def models_file() -> Traversable:
    """The catalogue of models."""
    return files(__name__) / "models.yaml"
