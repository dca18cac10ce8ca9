"""Input images and videos: checked and read without decoding anything in this process. See `Decoders`."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from wan22_bridge.errors import InvalidRequest, NotReady
from wan22_bridge.media.decoder import DecoderKilled
from wan22_bridge.media.decoders import decoders
from wan22_bridge.media.sandbox import Limits
from wan22_bridge.media.videos import VideoShape, require_video

logger = logging.getLogger(__name__)

CHECK = Limits(cpu_seconds=60, wall_seconds=120)
"""Limits while a client waits. Half a minute of 1920x1080, the longest accepted video, needs about a quarter of it."""
_ATTEMPTS = 3
"""Number of times that a job tries to read a file whose decoder dies. The file was checked before."""
_READ = Limits(cpu_seconds=600, wall_seconds=900)
"""Limits while a job reads a file that was checked. The frames are scaled, too."""


def check_image(data: bytes, *, param: str) -> tuple[int, int]:
    """Checks that `data` is a complete PNG, JPEG or WebP image within the size limits.

    Args:
        data: Content of the uploaded file.
        param: Name of the request field, for the error.

    Returns:
        Width and height in pixels after EXIF rotation.

    Raises:
        InvalidRequest: The image is damaged, incomplete, of another format or too large.
        NotReady: Too many files are being decoded.
    """
    result = _check(data, "check_image", param)
    return int(result["width"]), int(result["height"])


def check_video(data: bytes, *, param: str) -> VideoShape:
    """Checks that `data` is a complete mp4 within the limits, by decoding every frame.

    Raises:
        InvalidRequest: The video is damaged, incomplete, too large or too long.
        NotReady: Too many files are being decoded.
    """
    require_video(data, param=param)
    result = _check(data, "check_video", param)
    width, height, num_frames = (int(result[name]) for name in ("width", "height", "num_frames"))
    return VideoShape(width=width, height=height, num_frames=num_frames, fps=float(result["fps"]))


def _check(data: bytes, task: str, param: str) -> dict[str, Any]:
    source = os.memfd_create("input")
    with open(source, "w+b") as file:
        file.write(data)
        file.seek(0)
        [result] = decoders().decode(source, task, CHECK, param=param)
    assert isinstance(result, dict)
    return result


def read_image(path: Path, width: int, height: int) -> Image.Image:
    """Reads an image as RGB of exactly `width` by `height` pixels.

    EXIF rotation is applied. The image is then scaled to cover the frame and cropped around its center. Transparent
    parts become white.

    Raises:
        InvalidRequest: The image can't be read.
    """
    [image] = _read(path, "read_image", "image", width, height)
    return image


def read_frames(path: Path, num_frames: int, width: int, height: int) -> list[Image.Image]:
    """Reads the first frames of a video, each scaled to cover `width` by `height` pixels and center-cropped.

    Raises:
        InvalidRequest: The video can't be read, or has fewer frames.
    """
    frames = list(iterate_frames(path, num_frames, width, height))
    if len(frames) < num_frames:
        raise InvalidRequest(
            f"The video has only {len(frames)} frames: {num_frames} are needed.",
            code="video_too_short",
            param="num_frames",
            suggestions=[f"Ask for at most {max(1, (len(frames) - 1) // 4 * 4 + 1)} frames."],
        )
    return frames


def iterate_frames(path: Path, num_frames: int, width: int, height: int) -> Iterator[Image.Image]:
    """Reads up to `num_frames` frames one by one, each scaled to cover `width` by `height` pixels and center-cropped.

    Raises:
        InvalidRequest: The video can't be read.
    """
    return _read(path, "read_frames", "video", width, height, count=num_frames)


def read_last_frame(path: Path, width: int, height: int) -> Image.Image:
    """Reads the last frame of a video, scaled to cover `width` by `height` pixels and center-cropped.

    Raises:
        InvalidRequest: The video can't be read, or has no frames.
    """
    [image] = _read(path, "read_last_frame", "video", width, height)
    return image


def _read(path: Path, task: str, param: str, width: int, height: int, *, count: int = 1) -> Iterator[Image.Image]:
    """Yields up to `count` images."""
    request = {"param": param, "width": width, "height": height} | ({"count": count} if task == "read_frames" else {})
    size, sent = 3 * width * height, 0
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with path.open("rb") as file:
                found = decoders().decode(file.fileno(), task, _READ, patient=True, frame_bytes=size, **request)
                for index, pixels in enumerate(found):
                    if isinstance(pixels, bytes) and sent <= index < count:
                        yield Image.frombytes("RGB", (width, height), pixels)
                        sent = index + 1
            return
        except (NotReady, DecoderKilled):  # if memory is short, the system ends a decoder first
            if attempt == _ATTEMPTS:
                raise
            logger.warning("A decoder was lost while a job read its %s", param, extra={"action": "decoder_lost"})
