"""Input images as files' contents."""

import io

from PIL import Image


def png(width: int = 96, height: int = 64, colour: str = "red") -> bytes:
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()
