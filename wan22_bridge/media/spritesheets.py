"""Spritesheets: a grid of a video's frames in one image, for previews while a user moves over a timeline."""

import io
import math
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
from PIL import Image

from wan22_bridge.errors import StorageFailed
from wan22_bridge.media.colors import ColorConverter

MAX_TILES = 25
"""Maximum frames in a spritesheet."""
_TILE_SIDE = 256
"""Maximum width and height of a tile in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spritesheet:
    """Frames of a video in a grid, in reading order. The rest of the last row is black."""

    content: bytes
    """The image, a WebP."""
    columns: int
    rows: int
    tile_width: int
    """Pixels."""
    tile_height: int
    """Pixels."""
    frames: tuple[int, ...]
    """Index in the video of the frame in each tile: evenly spaced, with the first and the last frame."""


def make_spritesheet(path: Path) -> Spritesheet:
    """Makes the spritesheet of an mp4 that this service wrote. Decodes the whole video, one frame at a time.

    Raises:
        StorageFailed: The file can't be read as a video.
    """
    try:
        with av.open(str(path), "r", format="mp4") as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames = _choose_frames(stream.frames)
            columns = math.ceil(math.sqrt(len(frames)))
            rows = math.ceil(len(frames) / columns)
            width, height = _fit(stream.width, stream.height)
            sheet = Image.new("RGB", (columns * width, rows * height))
            colors, tile = ColorConverter(), 0
            for index, frame in enumerate(container.decode(stream)):
                if tile < len(frames) and index == frames[tile]:
                    image = Image.fromarray(colors.to_rgb(frame)).resize((width, height), Image.Resampling.LANCZOS)
                    sheet.paste(image, (tile % columns * width, tile // columns * height))
                    tile += 1
        if not tile or tile < len(frames):
            raise ValueError("the video has fewer frames than its index")
    except (av.error.FFmpegError, IndexError, ValueError) as exc:
        raise StorageFailed("The file can't be read as a video.", code="video_unreadable") from exc
    content = io.BytesIO()
    sheet.save(content, "WEBP", quality=80)
    return Spritesheet(
        content=content.getvalue(), columns=columns, rows=rows, tile_width=width, tile_height=height, frames=frames
    )


def _choose_frames(total: int) -> tuple[int, ...]:
    """Returns the indices of evenly spaced frames, with the first and the last one.

    Raises:
        ValueError: The video has no frames.
    """
    count = min(total, MAX_TILES)
    if count < 1:
        raise ValueError("the video has no frames")
    return tuple(round(tile * (total - 1) / max(1, count - 1)) for tile in range(count))


def _fit(width: int, height: int) -> tuple[int, int]:
    """Returns the size of a tile, in the shape of the video's frames."""
    scale = min(1.0, _TILE_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
