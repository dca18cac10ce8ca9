"""Input images as bytes."""

import io

from PIL import Image


def png(width: int = 96, height: int = 64, color: str = "red") -> bytes:
    """Returns a PNG of a single color."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), color).save(buffer, "PNG")
    return buffer.getvalue()
