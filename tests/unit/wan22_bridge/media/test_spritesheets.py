"""Spritesheets: the frames that they show, and the layout of the grid."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan22_bridge.errors import StorageFailed
from wan22_bridge.media.spritesheets import make_spritesheet
from wan22_bridge.media.writer import VideoWriter


def _write(path: Path, count: int, *, width: int = 96, height: int = 64) -> None:
    """Writes a video whose frames go from black to white."""
    levels = np.linspace(0, 255, count).astype(np.uint8)
    with VideoWriter(path, width=width, height=height, fps=16, parameters={}) as video:
        video.add(np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy())


@pytest.mark.parametrize(
    ("count", "tiles", "grid"), [(1, 1, (1, 1)), (5, 5, (3, 2)), (25, 25, (5, 5)), (81, 25, (5, 5))]
)
def test_a_spritesheet_shows_evenly_spaced_frames_with_the_first_and_the_last(
    count: int, tiles: int, grid: tuple[int, int], tmp_path: Path
) -> None:
    _write(tmp_path / "a.mp4", count)

    sheet = make_spritesheet(tmp_path / "a.mp4")

    assert (sheet.columns, sheet.rows) == grid
    assert len(set(sheet.frames)) == tiles
    assert (sheet.frames[0], sheet.frames[-1]) == (0, count - 1)
    gaps = np.diff(sheet.frames)
    assert tiles == 1 or gaps.max() - gaps.min() <= 1
    image = Image.open(io.BytesIO(sheet.content))
    assert image.format == "WEBP"
    assert image.size == (grid[0] * sheet.tile_width, grid[1] * sheet.tile_height)
    pixels = np.asarray(image.convert("L")).astype(int)
    for tile, frame in enumerate(sheet.frames):
        row, column = divmod(tile, sheet.columns)
        middle = pixels[(row * 2 + 1) * sheet.tile_height // 2, (column * 2 + 1) * sheet.tile_width // 2]
        assert abs(middle - 255 * frame / max(1, count - 1)) < 8


def test_tiles_have_the_shape_of_the_video_and_at_most_256_pixels_per_side(tmp_path: Path) -> None:
    _write(tmp_path / "tall.mp4", 2, width=256, height=512)

    sheet = make_spritesheet(tmp_path / "tall.mp4")

    assert (sheet.tile_width, sheet.tile_height) == (128, 256)


def test_a_damaged_video_is_reported(tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4", 5)
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:-400])
    (tmp_path / "c.mp4").write_bytes(b"video")

    for name in ("b.mp4", "c.mp4"):
        with pytest.raises(StorageFailed) as raised:
            make_spritesheet(tmp_path / name)
        assert raised.value.code == "video_unreadable"
