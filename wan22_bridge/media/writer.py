"""Writes and verifies the mp4 of a video, its thumbnail and its last frame. Imports no torch."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import av.error
import numpy as np
from av.video.stream import VideoStream
from PIL import Image

from wan22_bridge.errors import StorageFailed
from wan22_bridge.machine import count_cores
from wan22_bridge.media.colors import CHROMA_LOCATION, ColorConverter, tag_as_bt709
from wan22_bridge.types import Frames

_THUMBNAIL_SIDE = 384
_CRF = "18"


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """Properties of an mp4 file."""

    width: int
    height: int
    num_frames: int
    fps: float
    codec: str
    pixel_format: str
    parameters: dict[str, Any]
    """Generation parameters from the JSON in the file's comment; empty without a comment."""


class VideoWriter:
    """Writes an H.264 mp4 frame by frame, in yuv420p and BT.709, with the index at the front for streaming.

    Use it as a context manager. After an error, the caller has to remove the incomplete file.
    """

    def __init__(self, path: Path, *, width: int, height: int, fps: float, parameters: dict[str, Any]) -> None:
        """Opens the file.

        Args:
            path: File to write.
            width: Width in pixels.
            height: Height in pixels.
            fps: Frames per second, such as 24 or 23.976.
            parameters: Generation parameters, stored as JSON in the file's comment.
        """
        rate = exact_rate(fps)
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        self._container.metadata["comment"] = json.dumps(parameters, ensure_ascii=False)
        self._stream: VideoStream = self._container.add_stream(
            "libx264", rate=rate, options={"crf": _CRF, **CHROMA_LOCATION, **_reproducible_options()}
        )
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        tag_as_bt709(self._stream.codec_context)
        self._time_base = self._stream.time_base = 1 / rate
        # The encoder runs while the VAE still decodes frames. Its default of more threads than cores would slow both.
        self._stream.codec_context.thread_count = count_cores()
        self._colors = ColorConverter()
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def add(self, frames: Frames) -> None:
        """Appends frames [n, height, width, 3]."""
        for pixels in frames:
            frame = self._colors.to_yuv(pixels)
            frame.pts, frame.time_base = self._count, self._time_base
            self._container.mux(self._stream.encode(frame))
            self._count += 1


def exact_rate(fps: float) -> Fraction:
    """Returns a frame rate as the fraction that the mp4 states: 23.976 is 2997/125, and 29.97002997 is 30000/1001."""
    return Fraction(fps).limit_denominator(1001)


def _reproducible_options() -> dict[str, str]:
    """Returns encoder options with which equal frames give equal files.

    With AVX-512, the x264 of PyAV 18's wheels reads uninitialized memory in its macroblock tree, so no two files are
    equal. Its AVX2 code does not, and is as fast.
    """
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return {"x264-params": "asm=AVX2"} if "X86_V4" in found else {}


def write_thumbnail(path: Path, pixels: Frames) -> None:
    """Writes one frame [height, width, 3] as a small WebP."""
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    image.save(path, "WEBP", quality=80)


def write_png(path: Path, pixels: Frames) -> None:
    """Writes one frame [height, width, 3] as a PNG."""
    Image.fromarray(pixels).save(path, "PNG")


def read_video_info(path: Path) -> VideoInfo:
    """Reads the properties of an mp4, and counts its frames without decoding them.

    Raises:
        StorageFailed: The file can't be read as a video.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            comment = container.metadata.get("comment", "")
            num_frames = sum(1 for packet in container.demux(stream) if packet.size)
            return VideoInfo(
                width=stream.width,
                height=stream.height,
                num_frames=num_frames,
                fps=float(stream.average_rate or 0),
                codec=stream.codec_context.name,
                pixel_format=stream.pix_fmt or "",
                parameters=json.loads(comment) if comment else {},
            )
    except (av.error.FFmpegError, IndexError, ValueError) as exc:
        raise StorageFailed("The file can't be read as a video.", code="video_unreadable") from exc


def verify_video(
    path: Path, *, width: int, height: int, fps: float, num_frames: int, parameters: dict[str, Any]
) -> None:
    """Checks that a written mp4 has the expected size, frames and parameters.

    Raises:
        StorageFailed: The file can't be read or differs, for example because the disk was full.
    """
    info = read_video_info(path)
    expected = (width, height, num_frames, float(exact_rate(fps)), parameters)
    found = (info.width, info.height, info.num_frames, info.fps, info.parameters)
    if found != expected:
        raise StorageFailed(
            f"The written video has {info.width}x{info.height}, {info.num_frames} frames at {info.fps:g} fps: "
            f"expected {width}x{height}, {num_frames} frames at {fps:g} fps.",
            code="video_verification_failed",
        )
