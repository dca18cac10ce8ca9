"""Rules for frame counts and frame sizes."""

import math
import re

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import InvalidRequest

MAX_SIDE = 16_384
"""Maximum width and height in pixels that the H.264 encoder accepts."""
TEMPORAL_STRIDE = 4
"""Frames per latent frame. The first latent frame holds a single frame, so frame counts are 4k+1."""


def parse_size(text: str, *, param: str = "resolution") -> tuple[int, int]:
    """Parses `WIDTHxHEIGHT` into width and height in pixels.

    Raises:
        InvalidRequest: The text does not have that form, or a side is zero.
    """
    match = re.fullmatch(r"\s*(\d{1,6})\s*[x×*]\s*(\d{1,6})\s*", text, re.IGNORECASE)
    if match is None or "0" in (match[1].lstrip("0") or "0", match[2].lstrip("0") or "0"):
        raise InvalidRequest(
            f"{param} {text[:40]!r} is not a size: expected WIDTHxHEIGHT in pixels, such as 832x480.",
            code="invalid_resolution",
            param=param,
            suggestions=["Send the size as WIDTHxHEIGHT, for example 832x480."],
        )
    return int(match[1]), int(match[2])


def snap_size(size: tuple[int, int], spec: ModelSpec, *, param: str = "resolution") -> tuple[int, int]:
    """Rounds width and height down to multiples of the model's `size_multiple`.

    Raises:
        InvalidRequest: A side is smaller than the multiple, or the frame exceeds the model's limit.
    """
    multiple = spec.size_multiple
    width, height = (side // multiple * multiple for side in size)
    if width == 0 or height == 0:
        raise InvalidRequest(
            f"{param} {size[0]}x{size[1]} is too small for {spec.id}: each side needs at least {multiple} pixels.",
            code="resolution_too_small",
            param=param,
            suggestions=[f"Use {spec.size[0]}x{spec.size[1]}."],
        )
    if width * height > spec.max_pixels or max(width, height) > MAX_SIDE:
        fitting = size_for_aspect(width, height, spec.max_pixels, multiple)
        raise InvalidRequest(
            f"{param} {size[0]}x{size[1]} is too large for {spec.id}: the limit is {spec.max_pixels} pixels per "
            f"frame and {MAX_SIDE} per side.",
            code="resolution_too_large",
            param=param,
            suggestions=[f"Use {fitting[0]}x{fitting[1]} or smaller."],
        )
    return width, height


def size_for_aspect(width: int, height: int, area: int, multiple: int) -> tuple[int, int]:
    """Returns a width and height of about `area` pixels with the aspect ratio of `width` to `height`.

    Follows Wan2.2's image-to-video sizing: sides of sqrt(area·ratio), rounded down to the multiple. The ratio is
    limited to 16, and each side is at least one multiple.
    """
    ratio = max(1 / 16, min(16.0, height / width))
    snapped_height = max(multiple, int(math.sqrt(area * ratio)) // multiple * multiple)
    snapped_width = max(multiple, int(math.sqrt(area / ratio)) // multiple * multiple)
    return snapped_width, snapped_height


def snap_frames(num_frames: int, spec: ModelSpec, *, fps: float, param: str = "num_frames") -> int:
    """Rounds a frame count down to 4k+1.

    Raises:
        InvalidRequest: The count is below 1, or exceeds the model's limit.
    """
    if not 1 <= num_frames <= spec.max_frames:
        seconds = math.floor(10 * (spec.max_frames - 1) / fps) / 10
        raise InvalidRequest(
            f"{param} is {num_frames}: {spec.id} generates 1 to {spec.max_frames} frames.",
            code="too_many_frames" if num_frames > 0 else "invalid_num_frames",
            param=param,
            suggestions=[f"Ask for at most {spec.max_frames} frames: {seconds:g} seconds at {fps:g} fps."],
        )
    return (num_frames - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1
