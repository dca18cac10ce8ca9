"""Videos are written as tagged BT.709, and read by their own color tags."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from wan22_bridge.media.inputs import read_frames, read_last_frame
from wan22_bridge.media.writer import VideoWriter
from wan22_bridge.types import Frames

_COLORS = [
    (229, 24, 24),
    (24, 229, 24),
    (24, 24, 229),
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (0, 255, 255),
    (255, 0, 255),
    (255, 255, 255),
    (128, 128, 128),
    (0, 0, 0),
]
_RED = (229, 24, 24)
_RED_OF_BT601_READ_AS_BT709 = (246, 43, 19)
_SIZES = [(96, 96), (1280, 720)]
_BT709, _UNTAGGED, _BT470BG, _SMPTE170M, _YCGCO, _BT2020 = 1, 2, 5, 6, 8, 9


def _flat(colors: list[tuple[int, int, int]], width: int, height: int) -> Frames:
    """Returns one flat frame for each color, [n, height, width, 3]."""
    return np.repeat(np.array(colors, dtype=np.uint8), height * width, axis=0).reshape(-1, height, width, 3)


def _write(path: Path, frames: Frames) -> Path:
    with VideoWriter(path, width=frames.shape[2], height=frames.shape[1], fps=16, parameters={}) as video:
        video.add(frames)
    return path


def _read(path: Path, like: Frames) -> Frames:
    return np.stack([np.asarray(image) for image in read_frames(path, len(like), like.shape[2], like.shape[1])])


def _tags(data: bytes) -> dict[str, int]:
    """Returns the color tags that FFmpeg reports, which must be equal in the codec's context and in every frame."""
    with av.open(io.BytesIO(data), "r") as container:
        codec = container.streams.video[0].codec_context
        names = ("color_primaries", "color_trc", "colorspace", "color_range")
        before = {name: getattr(codec, name) for name in names}
        for frame in container.decode(video=0):
            assert {name: getattr(frame, name) for name in names} == before
    return before


def _encode(
    frames: Frames, *, pixels: Colorspace, tag: int, pixel_range: ColorRange = ColorRange.MPEG, kind: str = "yuv420p"
) -> bytes:
    """Encodes an mp4 as another program might: pixels of one color space, and any matrix tag of ITU-T H.273."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264rgb" if kind == "rgb24" else "libx264", rate=16)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = kind
        stream.codec_context.colorspace = tag
        stream.codec_context.color_range = ColorRange.UNSPECIFIED if tag == _UNTAGGED else pixel_range
        for rgb in frames:
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            if kind != "rgb24":
                frame = frame.reformat(format=kind, dst_colorspace=pixels, dst_color_range=pixel_range)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(("width", "height"), [*_SIZES, (832, 480), (480, 832)])
@pytest.mark.parametrize("with_colr", [True, False], ids=["stream and container", "stream alone"])
def test_a_written_video_is_tagged_as_limited_range_bt709(
    width: int, height: int, with_colr: bool, tmp_path: Path
) -> None:
    data = _write(tmp_path / "a.mp4", _flat([_RED], width, height)).read_bytes()
    assert _tags(data if with_colr else data.replace(b"colr", b"free")) == {
        "color_primaries": 1,
        "color_trc": 1,
        "colorspace": 1,
        "color_range": 1,
    }


def test_the_colr_box_of_a_written_video_names_limited_range_bt709(tmp_path: Path) -> None:
    data = _write(tmp_path / "a.mp4", _flat([_RED], 96, 96)).read_bytes()
    start = data.index(b"colr")
    assert data[start - 4 : start + 15] == b"\0\0\0\x13colrnclx" + b"\0\1\0\1\0\1" + b"\0"


@pytest.mark.parametrize(("width", "height"), [*_SIZES, (98, 50)])
def test_flat_colors_are_read_back_as_they_were_written(width: int, height: int, tmp_path: Path) -> None:
    frames = _flat(_COLORS, width, height)
    read = _read(_write(tmp_path / "a.mp4", frames), frames)
    assert np.abs(read.astype(int) - frames).max() <= 3


@pytest.mark.parametrize(("width", "height", "colors"), [(96, 96, _COLORS), (1280, 720, _COLORS[::2])])
def test_flat_colors_do_not_drift_over_ten_generations(
    width: int, height: int, colors: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    frames = _flat(colors, width, height)
    means = []
    for _ in range(10):
        frames = _read(_write(tmp_path / "a.mp4", frames), frames)
        means.append(frames.mean(axis=(1, 2)))
    assert np.abs(means[-1] - means[0]).max() <= 2


def test_a_smooth_picture_does_not_drift_over_ten_generations(tmp_path: Path) -> None:
    along, down = np.meshgrid(np.linspace(0, 255, 128), np.linspace(0, 255, 96))
    first = frames = np.stack([along, down, 255 - along], axis=-1).round().astype(np.uint8)[None]
    for _ in range(10):
        frames = _read(_write(tmp_path / "a.mp4", frames), frames)
    assert np.abs(frames.mean(axis=(0, 1, 2)) - first.mean(axis=(0, 1, 2))).max() <= 2


@pytest.mark.parametrize(
    ("size", "pixels", "tag", "pixel_range"),
    [
        ((96, 96), Colorspace.ITU709, _BT709, ColorRange.MPEG),
        ((1280, 720), Colorspace.ITU709, _BT709, ColorRange.MPEG),
        ((96, 96), Colorspace.ITU601, _SMPTE170M, ColorRange.MPEG),
        ((1280, 720), Colorspace.ITU601, _SMPTE170M, ColorRange.MPEG),
        ((1280, 720), Colorspace.ITU601, _BT470BG, ColorRange.MPEG),
        ((96, 96), Colorspace.ITU709, _BT709, ColorRange.JPEG),
        ((1280, 720), Colorspace.ITU601, _SMPTE170M, ColorRange.JPEG),
        ((96, 96), Colorspace.BT2020, _BT2020, ColorRange.MPEG),
        ((96, 96), Colorspace.ITU601, _UNTAGGED, ColorRange.MPEG),
        ((96, 718), Colorspace.ITU601, _UNTAGGED, ColorRange.MPEG),
        ((1280, 720), Colorspace.ITU709, _UNTAGGED, ColorRange.MPEG),
        ((96, 96), Colorspace.ITU601, _YCGCO, ColorRange.MPEG),  # libswscale has no matrix for it
        ((1280, 720), Colorspace.ITU709, _YCGCO, ColorRange.MPEG),
    ],
)
@pytest.mark.parametrize("kind", ["yuv420p", "yuv444p"])
def test_a_video_is_read_by_its_tags_and_without_them_by_its_height(
    size: tuple[int, int], pixels: Colorspace, tag: int, pixel_range: ColorRange, kind: str, tmp_path: Path
) -> None:
    frames = _flat([_RED] * 2, *size)
    (tmp_path / "a.mp4").write_bytes(_encode(frames, pixels=pixels, tag=tag, pixel_range=pixel_range, kind=kind))
    assert np.abs(_read(tmp_path / "a.mp4", frames).astype(int) - frames).max() <= 3
    last = np.asarray(read_last_frame(tmp_path / "a.mp4", *size)).astype(int)
    assert np.abs(last - frames[-1]).max() <= 3


def test_an_rgb_video_is_read_unconverted(tmp_path: Path) -> None:
    frames = _flat([_RED], 96, 96)
    (tmp_path / "a.mp4").write_bytes(_encode(frames, pixels=Colorspace.ITU709, tag=0, kind="rgb24"))
    assert np.abs(_read(tmp_path / "a.mp4", frames).astype(int) - frames).max() <= 3


def test_bt601_pixels_without_tags_look_wrong_in_high_definition(tmp_path: Path) -> None:
    """Shows that the tests above can fail: the wrong matrix changes this red by far more than 3 levels."""
    frames = _flat([_RED], 1280, 720)
    (tmp_path / "a.mp4").write_bytes(_encode(frames, pixels=Colorspace.ITU601, tag=_UNTAGGED))
    read = _read(tmp_path / "a.mp4", frames).astype(int)
    assert np.abs(read - _RED_OF_BT601_READ_AS_BT709).max() <= 4
