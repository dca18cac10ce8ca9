"""Data that the code reads and people edit, as YAML."""

from importlib.resources import files
from importlib.resources.abc import Traversable


def models_file() -> Traversable:
    """The catalogue of models."""
    return files(__name__) / "models.yaml"


def architectures_file() -> Traversable:
    """The shapes of the published models' components."""
    return files(__name__) / "architectures.yaml"


def previews_file() -> Traversable:
    """The factors of previews, by VAE."""
    return files(__name__) / "previews.yaml"


def times_file() -> Traversable:
    """How long models run and load, for simulations."""
    return files(__name__) / "times.yaml"
