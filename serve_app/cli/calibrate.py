"""`wan22 calibrate`: one run of a model that tells what the step cache MagCache has to know of it."""

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich.console import Console

from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import Wan22Error
from wan22_bridge.requests import GenerationRequest, InputImage, resolve_params

output = Console()


def calibrate(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The model's, in diffusers' format.")],
    model: Annotated[str, typer.Option(help="Its id in the catalogue.")],
    prompt: Annotated[str, typer.Option(help="A prompt such as jobs will have.")] = "a red ball rolls over the grass",
    image: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="The first frame.")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels; by default the model's own.")] = None,
    frames: Annotated[int | None, typer.Option(help="4k+1; by default the model's own.")] = None,
    steps: Annotated[int | None, typer.Option(min=2, max=100, help="By default the model's own.")] = None,
) -> None:
    """Make one run of a model, and keep what MagCache has to know of it in its folder as mag_ratios.json."""
    from wan22_bridge.bridge import ModelIntegrationBridge
    from wan22_bridge.models.sidecars import write_ratios
    from wan22_bridge.tuning.calibrating import calibrate as find_ratios

    catalogue = load_catalogue()
    if model not in catalogue:
        raise typer.BadParameter(f"there is no model {model!r}; the catalogue has {', '.join(catalogue)}.")
    spec = catalogue[model]
    try:
        request = GenerationRequest(
            prompt=prompt,
            model=model,
            resolution=size,
            num_frames=frames,
            steps=steps,
            seed=1,
            image=_describe_image(image) if image is not None else None,
        )
        params = resolve_params(request, [spec])
        loaded = ModelIntegrationBridge().load(spec, folder)
        path = write_ratios(folder, find_ratios(loaded, params, Path()))
    except Wan22Error as exc:
        Console(stderr=True).print(f"[red]Error:[/red] {exc.message}", *exc.suggestions, sep="\n  ", highlight=False)
        raise typer.Exit(2 if exc.category == "invalid_request" else 1) from None
    except OSError as exc:
        Console(stderr=True).print(
            f"[red]Error:[/red] The folder can't be written to: {exc.strerror}.", highlight=False
        )
        raise typer.Exit(1) from None
    output.print(f"Wrote {path}", highlight=False, soft_wrap=True)


def _describe_image(path: Path) -> InputImage:
    try:
        with Image.open(path) as opened:
            return InputImage(key=str(path.resolve()), width=opened.width, height=opened.height)
    except OSError:
        raise typer.BadParameter(f"{path} is no image that can be read.") from None
