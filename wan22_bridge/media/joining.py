"""Joins encoded videos of one encoder into one mp4, packet by packet, without decoding them."""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.error

from wan22_bridge.errors import storage_failed
from wan22_bridge.media.writer import verify_video
from wan22_bridge.types import GenerationParams


def join_videos(parts: Sequence[Path], path: Path, params: GenerationParams) -> None:
    """Writes one mp4 with the frames of all parts, which `VideoWriter` has written with the same size and frame rate.

    Raises:
        StorageFailed: a part can't be read, or the video can't be written.
    """
    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as joined:
            joined.metadata["comment"] = json.dumps(params.to_dict(), ensure_ascii=False)
            stream = None
            offset = 0
            for part in parts:
                with av.open(str(part)) as container:
                    source = container.streams.video[0]
                    if stream is None:
                        stream = joined.add_stream_from_template(source)
                        stream.time_base = source.time_base
                    assert source.time_base is not None
                    frame_ticks = int(1 / (Fraction(params.fps) * source.time_base))
                    count = 0
                    for packet in container.demux(source):
                        if not packet.size or packet.pts is None or packet.dts is None:
                            continue
                        packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                        packet.stream = stream
                        joined.mux(packet)
                        count += 1
                    offset += count * frame_ticks
    except (av.error.FFmpegError, OSError, IndexError) as exc:
        raise storage_failed("The parts of the video could not be joined.", exc, code="joining_failed") from exc
    verify_video(
        path,
        width=params.width,
        height=params.height,
        fps=params.fps,
        num_frames=params.num_frames,
        parameters=params.to_dict(),
    )
