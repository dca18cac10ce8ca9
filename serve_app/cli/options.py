"""Options and arguments that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from wan22_bridge.catalogue import ModelSpec, load_catalogue

Url = Annotated[str, typer.Option("--url", envvar="WAN22_URL", help="The URL of the running service.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="WAN22_API_KEY",
        help="An API key of the service, where it needs one. The variable hides it from other users of the machine.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Size = Annotated[str | None, typer.Option(help="Width and height in pixels, such as 832x480. Default: the model's.")]
Frames = Annotated[int | None, typer.Option(help="Number of frames, 4k+1. Default: the model's.")]
CatalogueModel = Annotated[str, typer.Option(help="A model's id in the catalogue; see `wan22 models list`.")]
ModelFolder = Annotated[
    Path | None, typer.Option(exists=True, file_okay=False, help="The folder of the model's files.")
]


def find_in_catalogue(model: str) -> ModelSpec:
    """Returns a model of the catalogue.

    Raises:
        typer.BadParameter: the catalogue has no model with this id.
    """
    catalogue = load_catalogue()
    if model not in catalogue:
        raise typer.BadParameter(
            f"there is no model {model!r}; the catalogue has {', '.join(catalogue)}.", param_hint="--model"
        )
    return catalogue[model]
