"""Input videos as bytes."""

import io

import av
import numpy as np

from wan22_bridge.types import Frames


def ramp(num_frames: int = 13, width: int = 96, height: int = 64) -> Frames:
    """Returns gray frames [n, height, width, 3] of increasing brightness."""
    grays = np.linspace(20, 230, num_frames, dtype=np.uint8)
    return grays[:, None, None, None] * np.ones((1, height, width, 3), dtype=np.uint8)


def mp4(frames: Frames | None = None, *, fps: int = 16, turned: int = 0, movflags: str = "") -> bytes:
    """Returns an mp4 without color tags.

    Args:
        frames: Frames [n, height, width, 3]; by default those of `ramp`.
        fps: Frames per second.
        turned: Rotation in degrees that a player applies.
        movflags: FFmpeg's flags of the mp4 container.
    """
    frames = ramp() if frames is None else frames
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"movflags": movflags} if movflags else {}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        if turned:
            stream.set_display_rotation(turned)
        container.start_encoding()
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        if len(frames):
            container.mux(stream.encode(None))
    return buffer.getvalue()


def cut_off() -> bytes:
    """Returns an incomplete mp4: its index, at the front, lists frames that are missing at the end."""
    complete = mp4(np.random.default_rng(0).integers(0, 255, (13, 64, 96, 3), dtype=np.uint8))
    index, frames = complete.index(b"moov") - 4, complete.index(b"mdat") - 4
    assert index > frames
    moved = complete[:frames] + complete[index:] + complete[frames:index]
    return moved[: -len(moved) // 3]


def sound() -> bytes:
    """Returns an mp4 with an audio stream and no video stream."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
