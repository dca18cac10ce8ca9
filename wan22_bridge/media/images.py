"""Input images: judged before they are kept, and fitted to the video's size before they are used."""

import io
import struct
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from wan22_bridge.errors import InvalidRequest

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_SIDE = 16_384
MAX_PIXELS = 64_000_000
"""An image is refused by what its header says, before a pixel of it is unpacked."""


def check_image(data: bytes, *, param: str) -> tuple[int, int]:
    """Makes sure that `data` is a whole PNG, JPEG or WebP image of a sane size.

    Returns:
        Width and height, as a viewer shows it (EXIF rotation applied).

    Raises:
        InvalidRequest: it is not, with what it is.
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
            f"{param} has too many pixels: at most {MAX_PIXELS // 1_000_000} megapixels and {MAX_SIDE} pixels a side "
            "are taken.",
            code="image_too_large",
            param=param,
            suggestions=["Scale the image down."],
        ) from exc
    except (OSError, ValueError, SyntaxError, struct.error) as exc:
        raise InvalidRequest(
            f"{param} can't be read as an image: it must be a whole PNG, JPEG or WebP file.",
            code="invalid_image",
            param=param,
            suggestions=["Open the file in an image viewer to see whether it is whole."],
        ) from exc


def open_image(path: Path, width: int, height: int) -> Image.Image:
    """Opens an input image as RGB of exactly `width` by `height`: turned upright, scaled to cover, centre-cropped.

    Transparent parts become white.
    """
    with Image.open(path, formats=FORMATS) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip to white and not scale
            image = image.convert("I").point(lambda value: value / 257).convert("L")
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return fit_image(image.convert("RGB"), width, height)


def fit_image(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scales an RGB image to cover `width` by `height`, and crops it around its centre."""
    return ImageOps.fit(image, (width, height), method=Image.Resampling.LANCZOS)
