"""Frames of a mock video: a placeholder that says in the picture that no model made it. Imports no torch."""

import textwrap
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wan22_bridge.types import Frames, GenerationParams

_BACKGROUND, _STRIPE, _TEXT = (32, 32, 40), (200, 60, 40), (240, 240, 240)
_MIN_TEXT_PIXELS = 10
"""Font size below which the explanation is left out, because only the word MOCK can be read."""


def mock_frames(params: GenerationParams) -> Iterator[Frames]:
    """Yields the frames one by one as [1, height, width, 3]. A bar at the bottom shows the time."""
    picture = np.asarray(_draw(params))
    bar_height = max(params.height // 32, 2)
    for index in range(params.num_frames):
        frame = picture.copy()
        frame[-bar_height:, : params.width * (index + 1) // params.num_frames] = _STRIPE
        yield frame[None]


def _draw(params: GenerationParams) -> Image.Image:
    width, height = params.width, params.height
    image = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    title = ImageFont.load_default(min(width / 4, height / 3))
    draw.text((width / 2, height / 20), "MOCK", _STRIPE, title, anchor="ma")
    size = min(width, height) / 18
    if size >= _MIN_TEXT_PIXELS:
        text = ImageFont.load_default(size)
        lines = [
            "No model made this video.",
            *([textwrap.shorten(params.mock_reason, 160)] if params.mock_reason else []),
            textwrap.shorten(params.prompt, 160),
            f"{params.model}  {width}x{height}  {params.num_frames} frames  {params.fps} fps  seed {params.seed}",
        ]
        characters = int(0.9 * width / (size * 0.55))
        wrapped = "\n".join(line for part in lines for line in textwrap.wrap(part, characters))
        draw.multiline_text((width / 20, height * 0.45), wrapped, _TEXT, text)
    return image
