"""Checks of uploaded videos, and upright frames read from them."""

from pathlib import Path

import numpy as np
import pytest

from tests.pictures import png
from tests.videos import cut_off, mp4, ramp, sound
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.media.inputs import check_video, read_frames, read_last_frame
from wan22_bridge.media.videos import MAX_FRAMES, VideoShape

_FRAGMENTED = "frag_keyframe+empty_moov"


@pytest.mark.parametrize("movflags", ["", _FRAGMENTED])
def test_the_shape_of_a_valid_video_is_returned(movflags: str) -> None:
    assert check_video(mp4(ramp(9), fps=24, movflags=movflags), param="video") == VideoShape(
        width=96, height=64, num_frames=9, fps=24
    )


@pytest.mark.parametrize(("turned", "size"), [(0, (96, 64)), (90, (64, 96)), (180, (96, 64)), (-90, (64, 96))])
def test_rotation_is_applied_to_the_size_and_the_frames(turned: int, size: tuple[int, int], tmp_path: Path) -> None:
    frames = np.zeros((5, 64, 96, 3), dtype=np.uint8)
    frames[:, :20] = 255  # white at the top of the stored frame
    (tmp_path / "a.mp4").write_bytes(mp4(frames, turned=turned))

    shape = check_video((tmp_path / "a.mp4").read_bytes(), param="video")
    [first, *_] = read_frames(tmp_path / "a.mp4", 5, *size)

    assert (shape.width, shape.height) == size
    assert first.size == size
    pixels = np.asarray(first.convert("L")).astype(int)
    sides = {0: pixels[0], 90: pixels[:, 0], 180: pixels[-1], -90: pixels[:, -1]}
    assert sides[turned].min() > 200
    assert pixels.mean() < 128
    last = np.asarray(read_last_frame(tmp_path / "a.mp4", *size).convert("L")).astype(int)
    assert np.abs(last - pixels).mean() < 3


BAD = {
    "empty": (b"", "invalid_video", "complete mp4"),
    "text": (b"just some text, not a video at all", "invalid_video", "complete mp4"),
    "an image": (png(), "invalid_video", "complete mp4"),
    "a playlist with the header of an mp4": (
        b"\0\0\0\x18ftypmp42#EXTM3U\nfile:///etc/passwd\n",
        "invalid_video",
        "damaged",
    ),
    "only sound": (sound(), "invalid_video", "no video stream"),
    "no frames": (mp4(ramp(0), movflags="empty_moov"), "invalid_video", "no frame"),
    "cut off within its frames": (cut_off(), "invalid_video", "incomplete"),
    "cut off within its index": (mp4()[:-200], "invalid_video", "incomplete"),
    "cut off within its header": (mp4()[:60], "invalid_video", "incomplete"),
    "too many frames": (mp4(ramp(MAX_FRAMES + 1, 16, 16)), "video_too_long", f"limit is {MAX_FRAMES} frames"),
    "too many frames in fragments": (
        mp4(ramp(MAX_FRAMES + 1, 16, 16), movflags=_FRAGMENTED),
        "video_too_long",
        f"limit is {MAX_FRAMES} frames",
    ),
    "too large": (mp4(ramp(1, 4096, 2320)), "video_too_large", "4096x2320"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_invalid_or_too_large_video_is_rejected(kind: str) -> None:
    data, code, reason = BAD[kind]
    with pytest.raises(InvalidRequest, match=reason) as caught:
        check_video(data, param="file")
    assert (caught.value.code, caught.value.param) == (code, "file")
    assert caught.value.suggestions


def test_a_container_that_understates_the_frame_size_is_rejected() -> None:
    """Changes the container's frame size to 64x64, while the encoded frames stay larger than the limit."""
    data = mp4(ramp(1, 4096, 2320))
    stated, hidden = ((width << 16 | height).to_bytes(4, "big") for width, height in ((4096, 2320), (64, 64)))
    assert stated in data
    with pytest.raises(InvalidRequest) as caught:
        check_video(data.replace(stated, hidden), param="video")
    assert caught.value.code in ("video_too_large", "invalid_video")


def test_overwritten_frames_are_detected() -> None:
    data = bytearray(mp4(np.random.default_rng(0).integers(0, 255, (9, 64, 96, 3), dtype=np.uint8)))
    start = data.index(b"mdat") + 1000
    data[start : start + 4000] = bytes(4000)
    with pytest.raises(InvalidRequest, match="damaged"):
        check_video(bytes(data), param="video")
