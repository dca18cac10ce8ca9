"""Checks uploaded images, and fits them to the size of the video."""

import io
import struct
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from wan22_bridge.errors import InvalidRequest

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_SIDE = 16_384
"""Maximum width and height in pixels."""
MAX_PIXELS = 64_000_000
"""Maximum pixels. Larger images are rejected by their header, before any pixel is decoded."""


def check_image(data: bytes, *, param: str) -> tuple[int, int]:
    """Checks that `data` is a complete PNG, JPEG or WebP image within the size limits.

    Args:
        data: Content of the uploaded file.
        param: Name of the request field, for the error.

    Returns:
        Width and height in pixels after EXIF rotation.

    Raises:
        InvalidRequest: The image is damaged, incomplete, of another format or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                return ImageOps.exif_transpose(image).convert("RGB").size
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


def open_image(path: Path, width: int, height: int) -> Image.Image:
    """Opens an image as RGB of exactly `width` by `height` pixels.

    EXIF rotation is applied. The image is then scaled to cover the frame and cropped around its center. Transparent
    parts become white.
    """
    with Image.open(path, formats=FORMATS) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # Pillow clips 16-bit gray to white instead of scaling it
            image = image.convert("I").point(lambda value: value / 257).convert("L")
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return fit_image(image.convert("RGB"), width, height)


def fit_image(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scales an RGB image to cover `width` by `height` pixels, and crops it around its center."""
    return ImageOps.fit(image, (width, height), method=Image.Resampling.LANCZOS)
