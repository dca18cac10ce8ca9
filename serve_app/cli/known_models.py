"""The models that `wan22 models` knows: those of the catalogue and those of the Serve config."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.terminal import fail

if TYPE_CHECKING:
    from wan22_bridge.catalogue import ModelSpec

Config = Annotated[Path, typer.Option(help="The Serve config, which can add models to the catalogue's.")]
ModelsDir = Annotated[Path | None, typer.Option(help="Folder of the models. Default: the config's.")]
Model = Annotated[str, typer.Argument(help="A model's id; see `wan22 models list`.")]
DEFAULT_CONFIG = Path("serve_config.yaml")
_DEFAULT_FOLDER = Path("data/models")
"""The folder of the models without a config."""


@dataclass(frozen=True, kw_only=True)
class KnownModels:
    """Models and where their files are."""

    specs: "Mapping[str, ModelSpec]"
    """The models by id."""
    folder: Path
    """The folder that holds a folder for each fetched model."""
    served: frozenset[str]
    """Ids of the models that the config serves."""
    cast_to_bf16: bool
    """Whether fetched fp32 weights are cast to bf16."""
    lock_path: Path
    """Path of the lock file, which need not exist."""

    def find(self, model: str) -> "ModelSpec":
        """Returns a model. An unknown id ends the command."""
        if model not in self.specs:
            fail(f"There is no model {model!r}; there are {', '.join(self.specs)}.", code=2)
        return self.specs[model]

    def find_fetched(self, model: str) -> "ModelSpec":
        """Returns a model whose files are downloaded. Another model ends the command."""
        spec = self.find(model)
        if not spec.is_fetched:
            where = f"is in your own folder {spec.path}" if spec.path else "is built in"
            fail(f"{model} {where}, so it has no downloaded files.", code=2)
        return spec


def read_models(config: Path, models_dir: Path | None, *, locked: bool = True) -> KnownModels:
    """Reads the models of the catalogue and of the config. The default config can be absent.

    Args:
        config: Path of the config.
        models_dir: Folder of the models, in place of the config's.
        locked: Whether the lock file pins the served models.

    Raises:
        ConfigurationError: the config is wrong.
    """
    from serve_app.running.config import load_config
    from wan22_bridge.catalogue import load_catalogue
    from wan22_bridge.fetching.lockfile import LOCK_NAME

    catalogue = load_catalogue()
    if config == DEFAULT_CONFIG and not config.exists():
        folder = models_dir or _DEFAULT_FOLDER
        return KnownModels(
            specs=catalogue, folder=folder, served=frozenset(), cast_to_bf16=False, lock_path=folder / LOCK_NAME
        )
    _, settings = load_config(config, port=None, data_dir=None, locked=locked)
    if models_dir is not None:
        settings = settings.model_copy(update={"models_dir": models_dir})
    served = {spec.id: spec for spec in settings.served_models(locked=locked)}
    return KnownModels(
        specs={**catalogue, **served},
        folder=settings.models_dir,
        served=frozenset(served),
        cast_to_bf16=settings.cast_to_bf16,
        lock_path=settings.lock_path,
    )


def measure_size(folder: Path) -> int:
    """Returns the total size of the files in a folder, in bytes. A folder that does not exist has size 0."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
