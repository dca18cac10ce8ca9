"""Color conversion between RGB frames and the YUV frames of video files. Imports no torch."""

from typing import cast

from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

from wan22_bridge.types import Frames

HD_HEIGHT = 720
"""Minimum height in pixels at which a video without color tags counts as BT.709, as in Chromium.

Lower videos count as BT.601.
"""

_MATRIX_BT709 = 1
_MATRICES = {
    _MATRIX_BT709: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.SMPTE170M,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
"""libswscale's number of each matrix of ITU-T H.273, which numbers some of them differently."""

_SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""libswscale's flags. Without them, it rounds down, which darkens a video by about 10 levels in ten generations."""

CHROMA_LOCATION = {"chroma_sample_location": "center"}
"""Encoder option that tags where `ColorConverter.to_yuv` takes its chroma samples.

Without the tag, decoders assume the left of each pair of pixels. Colors then move half a pixel in each generation.
"""


def tag_as_bt709(codec: VideoCodecContext) -> None:
    """Makes an encoder tag its video as limited-range BT.709, in the stream and in the container."""
    codec.color_primaries = ColorPrimaries.BT709
    codec.color_trc = ColorTrc.BT709
    codec.colorspace = _MATRIX_BT709
    codec.color_range = ColorRange.MPEG


class ColorConverter:
    """Converts the frames of one video, reusing libswscale's tables from frame to frame."""

    def __init__(self, *, threads: int = 0) -> None:
        """Takes the number of threads, 0 for one for each core. It does not change the colors."""
        self._reformatter = VideoReformatter()
        self._threads = threads

    def to_yuv(self, pixels: Frames) -> VideoFrame:
        """Converts one RGB frame [height, width, 3] to yuv420p in limited-range BT.709."""
        return self._reformatter.reformat(
            VideoFrame.from_ndarray(pixels, format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_SCALING,
            threads=self._threads,
        )

    def to_rgb(self, frame: VideoFrame) -> Frames:
        """Converts a decoded frame to RGB [height, width, 3], by its own matrix and range.

        If the matrix is not tagged, or unknown to libswscale, the frame's height decides: see `HD_HEIGHT`.
        """
        matrix = _MATRICES.get(frame.colorspace) or (
            Colorspace.ITU709 if frame.height >= HD_HEIGHT else Colorspace.ITU601
        )
        rgb = self._reformatter.reformat(
            frame, format="rgb24", src_colorspace=matrix, interpolation=_SCALING, threads=self._threads
        )
        return cast(Frames, rgb.to_ndarray())
