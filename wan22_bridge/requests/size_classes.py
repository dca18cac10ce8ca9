"""Sizes that a request names by a class such as `720p`, or by an aspect ratio."""

import math
import re

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.sizing import size_for_aspect

_CLASS_TOLERANCE_PIXELS = 32
"""Difference in lines up to which a size belongs to a class: TI2V-5B's 1280x704 is its 720p."""
_SHAPE_TOLERANCE = 1.1
"""Factor between two aspect ratios up to which they are one shape: 832x480 counts as 16:9."""
_WIDE = 16 / 9
"""Shape of the common classes."""


def parse_size_class(text: str) -> int | None:
    """Returns the lines of a class of sizes, such as 720 for `720p`; None for other texts."""
    match = re.fullmatch(r"\s*([1-9]\d{2,3})p\s*", text, re.IGNORECASE)
    return int(match[1]) if match else None


def parse_ratio(text: str) -> float:
    """Returns the width divided by the height of an aspect ratio such as `16:9`.

    Raises:
        InvalidRequest: the text is not an aspect ratio, or one side is more than 16 times the other.
    """
    match = re.fullmatch(r"\s*(\d{1,4}(?:\.\d{1,4})?)\s*[:/x×]\s*(\d{1,4}(?:\.\d{1,4})?)\s*", text, re.IGNORECASE)
    width, height = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    if not 0 < width <= 16 * height or height > 16 * width:
        raise InvalidRequest(
            f"aspect_ratio is {text[:40]!r}: expected WIDTH:HEIGHT, such as 16:9, and at most 16:1.",
            code="invalid_aspect_ratio",
            param="aspect_ratio",
            suggestions=["Use one of: 16:9, 9:16, 1:1, 4:3, 3:4.", "Or send the size as WIDTHxHEIGHT."],
        )
    return width / height


def same_shape(size: tuple[int, int], ratio: float) -> bool:
    """Returns whether a size has an aspect ratio, apart from roundings."""
    return math.exp(abs(math.log(size[0] / size[1] / ratio))) <= _SHAPE_TOLERANCE


def find_size(spec: ModelSpec, *, lines: int | None, ratio: float | None) -> tuple[int, int]:
    """Returns a model's own size of a class and a shape, or the nearest that suits the model.

    Args:
        spec: the model.
        lines: lines of the class, such as 720; None for the area of the model's default size.
        ratio: width divided by height; None for wide videos.
    """
    own = spec.size[0] * spec.size[1]
    sizes = [size for size in spec.sizes if lines is None or abs(min(size) - lines) <= _CLASS_TOLERANCE_PIXELS]
    ratio = ratio or _WIDE
    if fitting := [size for size in sizes if same_shape(size, ratio)]:
        return min(fitting, key=lambda size: abs(size[0] * size[1] - own))
    area = own
    if lines is not None:
        area = sizes[0][0] * sizes[0][1] if sizes else round(lines * lines * _WIDE)
    return size_for_aspect(round(90_000 * ratio), 90_000, area, spec.size_multiple)
