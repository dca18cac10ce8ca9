"""YAML data that the code reads and people edit."""

from importlib.resources import files
from importlib.resources.abc import Traversable


def models_file() -> Traversable:
    """Returns the catalogue of models."""
    return files(__name__) / "models.yaml"


def architectures_file() -> Traversable:
    """Returns the shapes of the published models' components."""
    return files(__name__) / "architectures.yaml"


def previews_file() -> Traversable:
    """Returns the preview factors of each VAE."""
    return files(__name__) / "previews.yaml"


def times_file() -> Traversable:
    """Returns the run and load times of models, for simulations."""
    return files(__name__) / "times.yaml"


def prompts_file() -> Traversable:
    """Returns the prompt guide: what a prompt should mention, and phrases for it."""
    return files(__name__) / "prompts.yaml"
