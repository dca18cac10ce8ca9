"""`wan22 calibrate`: measures a model for the step cache MagCache."""

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from serve_app.cli.options import CatalogueModel, Frames, Size, find_in_catalogue
from serve_app.cli.terminal import fail, reporting_errors, say
from wan22_bridge.requests import GenerationRequest, InputImage, resolve_params


def calibrate(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder of the model in diffusers' format.")
    ],
    model: CatalogueModel,
    prompt: Annotated[str, typer.Option(help="A prompt like those of later jobs.")] = "a red ball rolls over the grass",
    image: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="First frame, for an image-to-video model.")
    ] = None,
    size: Size = None,
    frames: Frames = None,
    steps: Annotated[int | None, typer.Option(min=2, max=100, help="Denoising steps. Default: the model's.")] = None,
) -> None:
    """Measure a model in one run for the step cache MagCache, and write mag_ratios.json into the model's folder."""
    from wan22_bridge.bridge import ModelIntegrationBridge
    from wan22_bridge.models.sidecars import write_ratios
    from wan22_bridge.tuning.calibrating import calibrate as find_ratios

    spec = find_in_catalogue(model)
    try:
        with reporting_errors():
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
    except OSError as exc:
        fail(f"Cannot write to the folder {folder}: {exc.strerror}.")
    say(f"Wrote {path}")


def _describe_image(path: Path) -> InputImage:
    try:
        with Image.open(path) as opened:
            return InputImage(key=str(path.resolve()), width=opened.width, height=opened.height)
    except OSError:
        raise typer.BadParameter(
            f"{path} is not a readable image; expected PNG, JPEG or WebP.", param_hint="--image"
        ) from None
