"""Calibration of MagCache for the tiny models."""

import tempfile
from pathlib import Path

from PIL import Image

from wan22_bridge.catalogue import ImageInput, load_catalogue
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.sidecars import MagRatios
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.requests import GenerationRequest, InputImage, resolve_params
from wan22_bridge.tiny_training.world import Motion, Scene, Shape, Thing, render
from wan22_bridge.tuning.calibrating import calibrate


def calibrate_tiny_model(member: str, folder: Path) -> MagRatios:
    """Measures MagCache's ratios on a video of the tiny world.

    Args:
        member: t2v, i2v or ti2v.
        folder: Folder of the model in diffusers' format.
    """
    spec = load_catalogue()[f"tiny-{member}"]
    thing = Thing(shape=Shape.CIRCLE, color="red", motion=Motion.RIGHT, x=-0.2, y=0.0, radius=0.15)
    with tempfile.TemporaryDirectory(prefix="wan22-calibration-") as name:
        width, height = spec.size
        pixels = render(Scene(ground="gray", things=(thing,)), num_frames=1, width=width, height=height)
        Image.fromarray((pixels[0] * 255).astype("uint8")).save(Path(name) / "first.png")
        first = InputImage(key="first.png", width=width, height=height)
        request = GenerationRequest(
            prompt="a red circle moving right on a gray background",
            model=spec.id,
            seed=1,
            image=first if spec.image is ImageInput.REQUIRED else None,
        )
        model = LoadedModel(spec, folder, base_plan("cpu"))
        return calibrate(model, resolve_params(request, [spec]), Path(name))
