"""Input videos: judged before they are kept; read frame by frame, upright and fitted, when they are used. No torch."""

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
"""A minute at 30 frames a second."""
MAX_FRAME_PIXELS = 4096 * 2304
MAX_PIXELS = 2_000_000_000
"""Of all frames together: half a minute of 1920x1080 at 30 fps. All are decoded before a video is kept, and that is
some seconds' work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoShape:
    """What there is to know of an input video."""

    width: int
    """As a player shows it: a phone's rotation applied."""
    height: int
    num_frames: int
    fps: float
    """0 where the file does not tell."""


def is_video(data: bytes) -> bool:
    """Whether a file that begins with `data` is an mp4 or its like."""
    return data[4:8] == b"ftyp"


def require_video(data: bytes, *, param: str) -> None:
    """Makes sure that `data` begins as an mp4 does.

    Raises:
        InvalidRequest: it does not.
    """
    if not is_video(data):
        raise _unreadable(param, "it must be a whole mp4 file")


def check_video(data: bytes, *, param: str) -> VideoShape:
    """Makes sure that `data` is a whole mp4 of a sane size, by decoding every frame.

    Raises:
        InvalidRequest: it is not, with what it is.
    """
    require_video(data, param=param)
    with _reading(param), _open(io.BytesIO(data)) as container:
        stream = _find_stream(container, param)
        width, height = stream.codec_context.width, stream.codec_context.height
        _check_limits(width, height, max(stream.frames, len(stream.index_entries)), param)
        if any(entry.pos + entry.size > len(data) for entry in stream.index_entries):
            raise _unreadable(param, "it is cut off")
        num_frames = 0
        for frame in _decode(container, stream):
            num_frames += 1
            _check_limits(frame.width, frame.height, num_frames, param)
            if num_frames == 1:
                width, height = (frame.width, frame.height)[:: -1 if frame.rotation % 180 else 1]
        if num_frames == 0:
            raise _unreadable(param, "it has no frame, or is cut off")
        return VideoShape(width=width, height=height, num_frames=num_frames, fps=float(stream.average_rate or 0))


def read_frames(path: Path, num_frames: int, width: int, height: int) -> list[Image.Image]:
    """The first frames of a video, each scaled to cover `width` by `height` and cropped around its centre.

    Raises:
        InvalidRequest: it can't be read, or has fewer frames.
    """
    frames = [fit_image(image, width, height) for image in islice(_read_images(path), num_frames)]
    if len(frames) < num_frames:
        raise InvalidRequest(
            f"The video has {len(frames)} frames, and {num_frames} are asked for.",
            code="video_too_short",
            param="num_frames",
            suggestions=[f"Ask for at most {max(1, (len(frames) - 1) // 4 * 4 + 1)} frames."],
        )
    return frames


def read_last_frame(path: Path, width: int, height: int) -> Image.Image:
    """The last frame of a video, fitted likewise: what a continuation begins with.

    Raises:
        InvalidRequest: it can't be read, or has no frame.
    """
    last = None
    for image in _read_images(path):
        last = image
    if last is None:
        raise _unreadable("video", "it has no frame, or is cut off")
    return fit_image(last, width, height)


def _read_images(path: Path) -> Iterator[Image.Image]:
    colors = ColorConverter()
    with _reading("video"), path.open("rb") as file, _open(file) as container:
        for frame in _decode(container, _find_stream(container, "video")):
            image = Image.fromarray(colors.to_rgb(frame))
            yield image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _open(file: io.BufferedIOBase) -> InputContainer:
    """Opens an mp4, and nothing else: FFmpeg also knows playlists, which name other files."""
    return av.open(file, "r", format="mp4", metadata_errors="replace")


def _find_stream(container: InputContainer, param: str) -> VideoStream:
    if not container.streams.video:
        raise _unreadable(param, "it has no video stream" if len(container.streams) else "it must be a whole mp4 file")
    return container.streams.video[0]


def _decode(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The frames; the decoder takes none that is larger than allowed, whatever the container said of it."""
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
    yield from container.decode(stream)


@contextmanager
def _reading(param: str) -> Iterator[None]:
    """Tells of a file that can't be decoded."""
    try:
        yield
    except (av.error.FFmpegError, IndexError, ValueError) as exc:
        raise _unreadable(param, "it is damaged or cut off") from exc


def _check_limits(width: int, height: int, num_frames: int, param: str) -> None:
    pixels = width * height
    if pixels > MAX_FRAME_PIXELS:
        raise InvalidRequest(
            f"The video has frames of {width}x{height}: at most {MAX_FRAME_PIXELS / 1e6:.1f} megapixels are taken.",
            code="video_too_large",
            param=param,
            suggestions=["Scale the video down: to 1280x720, say."],
        )
    most = min(MAX_FRAMES, MAX_PIXELS // max(1, pixels))
    if num_frames > most:
        raise InvalidRequest(
            f"The video is too long: of {width}x{height}, at most {most} frames are taken.",
            code="video_too_long",
            param=param,
            suggestions=[f"Cut it to {most} frames." if most == MAX_FRAMES else "Cut it, or scale it down."],
        )


def _unreadable(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"The video can't be read: {reason}.",
        code="invalid_video",
        param=param,
        suggestions=["Send an mp4 that plays to its end."],
    )
