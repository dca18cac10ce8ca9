"""Written mp4 files: their format, their content, and the detection of damaged ones."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from wan22_bridge.errors import StorageFailed
from wan22_bridge.media.writer import VideoWriter, read_video_info, verify_video
from wan22_bridge.types import Frames

_PARAMETERS = {"prompt": "ein „Kreis“ 圆", "seed": 7}


def _frames(count: int) -> Frames:
    """Returns frames of a white square that moves right over black."""
    frames = np.zeros((count, 64, 96, 3), dtype=np.uint8)
    for index in range(count):
        frames[index, 16:48, index * 4 : index * 4 + 32] = 255
    return frames


def _write(path: Path, *, count: int = 13, fps: float = 24) -> None:
    with VideoWriter(path, width=96, height=64, fps=fps, parameters=_PARAMETERS) as video:
        video.add(_frames(count)[:1])
        video.add(_frames(count)[1:])


@pytest.mark.parametrize(("count", "fps"), [(1, 16), (13, 24), (17, 16), (5, 7), (9, 23.976), (9, 29.97), (5, 12.5)])
def test_a_written_video_has_the_requested_properties(count: int, fps: float, tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4", count=count, fps=fps)
    info = read_video_info(tmp_path / "a.mp4")
    assert (info.width, info.height, info.num_frames, info.fps) == (96, 64, count, float(fps))
    assert (info.codec, info.pixel_format, info.parameters) == ("h264", "yuv420p", _PARAMETERS)


def test_a_video_at_an_ntsc_rate_has_exactly_that_rate(tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4", fps=30_000 / 1001)
    with av.open(tmp_path / "a.mp4") as container:
        assert container.streams.video[0].average_rate == Fraction(30_000, 1001)


def test_equal_frames_give_equal_files(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(320), 2 * np.arange(320))
    frames = np.stack([(ramp + 3 * index) % 256 for index in range(33)]).astype(np.uint8)
    files, random, held = set(), np.random.default_rng(0), []
    for index in range(6):
        path = tmp_path / f"{index}.mp4"
        with VideoWriter(path, width=320, height=320, fps=16, parameters={}) as video:
            for frame in frames:
                held.append(random.bytes(int(random.integers(1, 1_600_000))))  # different memory contents each time
                if random.random() < 0.5:
                    held.pop()
                video.add(np.repeat(frame[None, :, :, None], 3, axis=-1))
        files.add(path.read_bytes())
    assert len(files) == 1


def test_the_decoded_frames_match_the_written_ones(tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert decoded.shape == (13, 64, 96, 3)
    assert np.abs(decoded.astype(int) - _frames(13)).mean() < 2


def test_the_index_precedes_the_frames_for_streaming(tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_a_video_with_missing_frames_fails_verification(tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4", count=9)
    with pytest.raises(StorageFailed, match="9 frames at 24 fps: expected 96x64, 13 frames"):
        verify_video(tmp_path / "a.mp4", width=96, height=64, fps=24, num_frames=13, parameters=_PARAMETERS)


@pytest.mark.parametrize("kept", [0, 100, 1500])
def test_a_truncated_file_fails_verification(kept: int, tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:kept])
    with pytest.raises(StorageFailed):
        verify_video(tmp_path / "a.mp4", width=96, height=64, fps=24, num_frames=13, parameters=_PARAMETERS)
