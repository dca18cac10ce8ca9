"""Decodes images, and fits them to the size of the video.

The service calls these functions in a decoder only, by `wan22_bridge.media.inputs`.
"""

import struct
import warnings
from typing import BinaryIO

from PIL import Image, ImageOps

from wan22_bridge.errors import InvalidRequest

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_SIDE = 16_384
"""Maximum width and height in pixels."""
MAX_PIXELS = 64_000_000
"""Maximum pixels. Larger images are rejected by their header, before any pixel is decoded."""
_STRIP_ROWS = 256
"""Rows that are converted at once, because each conversion needs copies of them."""


def decode_image(file: BinaryIO, *, param: str) -> Image.Image:
    """Decodes the first picture of a PNG, JPEG or WebP file within the size limits, as upright RGB.

    EXIF rotation is applied. Transparent parts become white.

    Args:
        file: The file.
        param: Name of the request field, for the error.

    Raises:
        InvalidRequest: The image is damaged, incomplete, of another format or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                return _flatten(image)
    except Image.DecompressionBombError as exc:
        raise InvalidRequest(
            f"{param} is too large: the limit is {MAX_PIXELS // 1_000_000} megapixels and {MAX_SIDE} pixels per side.",
            code="image_too_large",
            param=param,
            suggestions=["Scale the image down."],
        ) from exc
    except (OSError, ValueError, SyntaxError, struct.error) as exc:
        raise InvalidRequest(
            f"{param} can't be read as an image: it must be a complete PNG, JPEG or WebP file.",
            code="invalid_image",
            param=param,
            suggestions=["Open the file in an image viewer to check that it is complete."],
        ) from exc


def _flatten(image: Image.Image) -> Image.Image:
    """Returns an image as upright RGB. Changes the image in place, because a copy takes up to 256 MB."""
    ImageOps.exif_transpose(image, in_place=True)
    flat = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP_ROWS):
        box = (0, top, image.width, min(top + _STRIP_ROWS, image.height))
        flat.paste(_flatten_strip(image.crop(box)), box)
    return flat


def _flatten_strip(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow clips 16-bit gray to white instead of scaling it
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def fit_image(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scales an RGB image to cover `width` by `height` pixels, and crops it around its center."""
    return ImageOps.fit(image, (width, height), method=Image.Resampling.LANCZOS)
