"""Checks videos, and decodes their frames at the size of the new video.

The service calls the functions that take a file in a decoder only, by `wan22_bridge.media.inputs`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

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
MAX_STREAMS = 16
"""Maximum streams of a file, counting sound and subtitles."""
CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4")
"""Codecs that are decoded, by FFmpeg's names. The other hundreds of decoders are tried far less often by others."""
_OPTIONS = {
    "codec_whitelist": "h264,hevc,vp9,libdav1d,av1,mpeg4",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2",
    "protocol_whitelist": "none",  # the file itself comes from Python
    "max_pixels": str(MAX_FRAME_PIXELS),
}
"""FFmpeg's options for its first look at a file, in which it already opens decoders."""


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
        raise unreadable(param, "it must be a complete mp4 file")


def measure_video(file: BinaryIO, *, param: str) -> VideoShape:
    """Checks that a file is a complete mp4 within the limits, by decoding every frame.

    Raises:
        InvalidRequest: The video is damaged, incomplete, too large or too long, or its codec is not supported.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with _reading(param), _open(file, param) as container:
        stream = _find_stream(container, param)
        width, height = stream.codec_context.width, stream.codec_context.height
        _check_limits(width, height, max(stream.frames, len(stream.index_entries)), param)
        if any(entry.pos + entry.size > size for entry in stream.index_entries):
            raise unreadable(param, "it is incomplete")
        num_frames = 0
        for frame in _decode(container, stream):
            num_frames += 1
            _check_limits(frame.width, frame.height, num_frames, param)
            if num_frames == 1:
                width, height = (frame.width, frame.height)[:: -1 if frame.rotation % 180 else 1]
        if num_frames == 0:
            raise unreadable(param, "it has no frames, or is incomplete")
        return VideoShape(width=width, height=height, num_frames=num_frames, fps=float(stream.average_rate or 0))


def decode_frames(file: BinaryIO, width: int, height: int, *, param: str) -> Iterator[Image.Image]:
    """Decodes frames one by one, each scaled to cover `width` by `height` pixels and center-cropped.

    Raises:
        InvalidRequest: The video can't be read.
    """
    for image in _decode_images(file, param):
        yield fit_image(image, width, height)


def decode_last_frame(file: BinaryIO, width: int, height: int, *, param: str) -> Image.Image:
    """Decodes the last frame, scaled to cover `width` by `height` pixels and center-cropped.

    Raises:
        InvalidRequest: The video can't be read, or has no frames.
    """
    last = None
    for image in _decode_images(file, param):
        last = image
    if last is None:
        raise unreadable(param, "it has no frames, or is incomplete")
    return fit_image(last, width, height)


def _decode_images(file: BinaryIO, param: str) -> Iterator[Image.Image]:
    colors = ColorConverter(threads=1)  # a confined process can't start threads
    with _reading(param), _open(file, param) as container:
        for frame in _decode(container, _find_stream(container, param)):
            image = Image.fromarray(colors.to_rgb(frame))
            yield image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _open(file: BinaryIO, param: str) -> InputContainer:
    """Opens an mp4. Other formats are rejected, because FFmpeg's playlists can name other files."""
    container = av.open(file, "r", format="mp4", metadata_errors="replace", options=_OPTIONS)
    if len(container.streams) > MAX_STREAMS:
        raise unreadable(param, f"it has {len(container.streams)} streams, and the limit is {MAX_STREAMS}")
    return container


def _find_stream(container: InputContainer, param: str) -> VideoStream:
    """Returns the first video stream with a supported codec, which skips a cover picture."""
    if not container.streams.video:
        raise unreadable(
            param, "it has no video stream" if len(container.streams) else "it must be a complete mp4 file"
        )
    codecs = [
        stream.codec_context.codec.canonical_name if stream.codec_context is not None else "unknown"
        for stream in container.streams.video
    ]
    for codec, stream in zip(codecs, container.streams.video, strict=True):
        if codec in CODECS:
            return stream
    raise InvalidRequest(
        f"{param} is a video with the codec {codecs[0]}: supported are {', '.join(CODECS)}.",
        code="video_codec_not_supported",
        param=param,
        suggestions=["Convert the video to H.264."],
    )


def _decode(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decodes frames. The decoder enforces the frame size, because the container may state another one."""
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
    stream.codec_context.thread_count = 1
    yield from container.decode(stream)


@contextmanager
def _reading(param: str) -> Iterator[None]:
    """Raises `InvalidRequest` in place of an error of the decoder."""
    try:
        yield
    except MemoryError:
        raise  # PyAV's own is an error of FFmpeg, too
    except (av.error.FFmpegError, IndexError, ValueError) as exc:
        raise unreadable(param, "it is damaged or incomplete") from exc


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


def unreadable(param: str, reason: str) -> InvalidRequest:
    """Returns the error for a video that can't be read."""
    return InvalidRequest(
        f"The video can't be read: {reason}.",
        code="invalid_video",
        param=param,
        suggestions=["Send an mp4 that plays to the end."],
    )
