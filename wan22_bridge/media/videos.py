"""Checks uploaded videos, and reads their frames at the size of the new video."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from wan22_bridge.errors import InvalidRequest
from wan22_bridge.media.colors import ColorConverter
from wan22_bridge.media.images import fit_image

MAX_FRAMES = 1800
"""Maximum frames: a minute at 30 fps."""
MAX_FRAME_PIXELS = 4096 * 2304
"""Maximum pixels of one frame."""
MAX_PIXELS = 2_000_000_000
"""Maximum pixels of all frames together: half a minute of 1920x1080 at 30 fps.

The limit exists because every frame is decoded when a video is uploaded.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoShape:
    """Size, length and frame rate of an input video."""

    width: int
    """Width in pixels, with the file's rotation applied."""
    height: int
    """Height in pixels, with the file's rotation applied."""
    num_frames: int
    fps: float
    """Frames per second; 0 if the file does not state them."""


def is_video(data: bytes) -> bool:
    """Returns whether a file that begins with `data` is an mp4 or a similar format."""
    return data[4:8] == b"ftyp"


def require_video(data: bytes, *, param: str) -> None:
    """Checks that a file that begins with `data` is an mp4.

    Raises:
        InvalidRequest: The file is not an mp4.
    """
    if not is_video(data):
        raise _unreadable(param, "it must be a complete mp4 file")


def check_video(data: bytes, *, param: str) -> VideoShape:
    """Checks that `data` is a complete mp4 within the limits, by decoding every frame.

    Raises:
        InvalidRequest: The video is damaged, incomplete, too large or too long.
    """
    require_video(data, param=param)
    with _reading(param), _open(io.BytesIO(data)) as container:
        stream = _find_stream(container, param)
        width, height = stream.codec_context.width, stream.codec_context.height
        _check_limits(width, height, max(stream.frames, len(stream.index_entries)), param)
        if any(entry.pos + entry.size > len(data) for entry in stream.index_entries):
            raise _unreadable(param, "it is incomplete")
        num_frames = 0
        for frame in _decode(container, stream):
            num_frames += 1
            _check_limits(frame.width, frame.height, num_frames, param)
            if num_frames == 1:
                width, height = (frame.width, frame.height)[:: -1 if frame.rotation % 180 else 1]
        if num_frames == 0:
            raise _unreadable(param, "it has no frames, or is incomplete")
        return VideoShape(width=width, height=height, num_frames=num_frames, fps=float(stream.average_rate or 0))


def read_frames(path: Path, num_frames: int, width: int, height: int) -> list[Image.Image]:
    """Reads the first frames of a video, each scaled to cover `width` by `height` pixels and center-cropped.

    Raises:
        InvalidRequest: The video can't be read, or has fewer frames.
    """
    frames = list(islice(iterate_frames(path, width, height), num_frames))
    if len(frames) < num_frames:
        raise InvalidRequest(
            f"The video has only {len(frames)} frames: {num_frames} are needed.",
            code="video_too_short",
            param="num_frames",
            suggestions=[f"Ask for at most {max(1, (len(frames) - 1) // 4 * 4 + 1)} frames."],
        )
    return frames


def iterate_frames(path: Path, width: int, height: int) -> Iterator[Image.Image]:
    """Reads the frames of a video one by one, each scaled to cover `width` by `height` pixels and center-cropped.

    Raises:
        InvalidRequest: The video can't be read.
    """
    for image in _read_images(path):
        yield fit_image(image, width, height)


def read_last_frame(path: Path, width: int, height: int) -> Image.Image:
    """Reads the last frame of a video, scaled to cover `width` by `height` pixels and center-cropped.

    Raises:
        InvalidRequest: The video can't be read, or has no frames.
    """
    last = None
    for image in _read_images(path):
        last = image
    if last is None:
        raise _unreadable("video", "it has no frames, or is incomplete")
    return fit_image(last, width, height)


def _read_images(path: Path) -> Iterator[Image.Image]:
    colors = ColorConverter()
    with _reading("video"), path.open("rb") as file, _open(file) as container:
        for frame in _decode(container, _find_stream(container, "video")):
            image = Image.fromarray(colors.to_rgb(frame))
            yield image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _open(file: io.BufferedIOBase) -> InputContainer:
    """Opens an mp4. Other formats are rejected, because FFmpeg's playlists can name other files."""
    return av.open(file, "r", format="mp4", metadata_errors="replace")


def _find_stream(container: InputContainer, param: str) -> VideoStream:
    if not container.streams.video:
        raise _unreadable(
            param, "it has no video stream" if len(container.streams) else "it must be a complete mp4 file"
        )
    return container.streams.video[0]


def _decode(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decodes frames. The decoder enforces the frame size, because the container may state another one."""
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
    yield from container.decode(stream)


@contextmanager
def _reading(param: str) -> Iterator[None]:
    """Raises `InvalidRequest` in place of an error of the decoder."""
    try:
        yield
    except (av.error.FFmpegError, IndexError, ValueError) as exc:
        raise _unreadable(param, "it is damaged or incomplete") from exc


def _check_limits(width: int, height: int, num_frames: int, param: str) -> None:
    pixels = width * height
    if pixels > MAX_FRAME_PIXELS:
        raise InvalidRequest(
            f"The video is {width}x{height}: the limit is {MAX_FRAME_PIXELS / 1e6:.1f} megapixels per frame.",
            code="video_too_large",
            param=param,
            suggestions=["Scale the video down, for example to 1280x720."],
        )
    limit = min(MAX_FRAMES, MAX_PIXELS // max(1, pixels))
    if num_frames > limit:
        raise InvalidRequest(
            f"The video is too long: at {width}x{height}, the limit is {limit} frames.",
            code="video_too_long",
            param=param,
            suggestions=[f"Cut it to {limit} frames." if limit == MAX_FRAMES else "Cut it, or scale it down."],
        )


def _unreadable(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"The video can't be read: {reason}.",
        code="invalid_video",
        param=param,
        suggestions=["Send an mp4 that plays to the end."],
    )
