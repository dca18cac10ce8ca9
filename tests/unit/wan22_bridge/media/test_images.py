"""Checks of uploaded images, and their conversion to upright RGB of the video's size."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan22_bridge.errors import InvalidRequest
from wan22_bridge.media.inputs import check_image, read_image


def _encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _bomb(width: int, height: int) -> bytes:
    """Returns a PNG of a few bytes whose header states a huge size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_size_of_a_valid_image_is_returned(kind: str) -> None:
    assert check_image(_encode(Image.new("RGB", (30, 20)), kind), param="image") == (30, 20)


def test_exif_rotation_is_applied_to_the_size_and_the_pixels(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    data = _encode(image, "JPEG", exif=exif)
    assert check_image(data, param="image") == (20, 40)
    (tmp_path / "a").write_bytes(data)
    assert read_image(tmp_path / "a", 20, 40).size == (20, 40)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "invalid_image"),
        (b"just some text, not an image at all", "invalid_image"),
        (_encode(Image.effect_noise((64, 64), 50))[:-200], "invalid_image"),
        (_encode(Image.new("RGB", (9, 9)), "GIF"), "invalid_image"),
        (_bomb(60_000, 60_000), "image_too_large"),
        (_bomb(9_000, 9_000), "image_too_large"),
        (_bomb(20_000, 1), "image_too_large"),
    ],
)
def test_an_invalid_or_too_large_image_is_rejected(data: bytes, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_image(data, param="image")
    assert (caught.value.code, caught.value.param) == (code, "image")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "CMYK", "I;16", "1"])
def test_every_pixel_format_becomes_rgb_of_the_requested_size(mode: str, tmp_path: Path) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    (tmp_path / "a").write_bytes(_encode(Image.new(mode, (50, 30)), kind))
    image = read_image(tmp_path / "a", 32, 16)
    assert (image.mode, image.size) == ("RGB", (32, 16))


def test_16_bit_gray_keeps_its_shades(tmp_path: Path) -> None:
    shades = np.repeat(np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16), 16, axis=1).repeat(64, axis=0)
    (tmp_path / "a").write_bytes(_encode(Image.fromarray(shades)))
    opened = np.asarray(read_image(tmp_path / "a", 64, 64))
    assert [tuple(opened[32, column]) for column in (4, 20, 36, 60)] == [(value,) * 3 for value in (0, 1, 128, 255)]


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(_encode(Image.new("RGBA", (16, 16), (255, 0, 0, 0))))
    assert read_image(tmp_path / "a", 16, 16).getpixel((8, 8)) == (255, 255, 255)


def test_an_image_of_another_aspect_ratio_is_cropped_around_its_center(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 100), "red")
    image.paste("blue", (100, 0, 200, 100))
    (tmp_path / "a").write_bytes(_encode(image))
    blue = np.asarray(read_image(tmp_path / "a", 64, 64))[:, :, 2]
    assert blue.min() > 240
