"""`wan22 fit-preview`: fits the colors of live previews to a model's VAE."""

from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.terminal import fail, say


def fit_preview(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder of a model in diffusers' format.")
    ],
) -> None:
    """Fit the colors of live previews to a model's VAE, and write them to preview.json in the model's folder."""
    from diffusers import AutoencoderKLWan

    from wan22_bridge.models.kernels import use_fast_kernels
    from wan22_bridge.models.sidecars import write_factors
    from wan22_bridge.tuning.preview_factors import draw_pictures, fit_factors

    try:
        vae = AutoencoderKLWan.from_pretrained(folder / "vae")
        use_fast_kernels(vae)
        path = write_factors(folder, fit_factors(vae, draw_pictures()))
    except (OSError, ValueError, RuntimeError) as exc:
        reason = str(exc).partition("\n")[0][:200]
        fail(f"{folder} has no Wan2.2 VAE in diffusers' format: {reason}", code=2)
    say(f"Wrote {path}")
