"""Detectors that recognize the things in a video of the tiny world from its pixels alone."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wan22_bridge.tiny_training.world import COLORS, GROUNDS, Motion, Pixels, Plane, Pose, Shape, cover, places
from wan22_bridge.types import Frames

_THERE = 0.22
"""Minimum distance between a thing's pixel and the ground in RGB, with channels in 0..1."""
_SMALLEST_SHARE = 0.002
"""Minimum area of a thing, as a share of the frame's pixels."""
_MOVED = 0.18
"""Minimum distance of a motion in one direction, as a share of the frame's shorter side."""
_BOUNCED = 0.15
"""Minimum height of a bounce, as a share of the frame's shorter side."""
_GREW = math.log(2.0)
"""Minimum change of a growing thing's area, as a logarithm."""
_TURNED = 0.85
"""Overlap with the first frame's mask below which a thing spins."""
_ANGLES = 12
"""Number of angles at which a spinning thing is compared with each shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """One detected thing, with the nearest color, shape and motion of the tiny world."""

    color: str
    shape: Shape
    motion: Motion


@dataclass(frozen=True, kw_only=True, slots=True)
class _Track:
    """Mask, center and size of a thing in each frame. Lengths are shares of the frame's shorter side."""

    masks_THW: NDArray[np.bool_]
    x_T: NDArray[np.float64]
    y_T: NDArray[np.float64]
    radius_T: NDArray[np.float64]
    """Radius of a circle with the mask's area."""


def see_ground(frames: Frames) -> str:
    """Returns the name of the ground nearest to the color at the frames' upper and lower edges."""
    edge = np.concatenate([frames[:, 0].reshape(-1, 3), frames[:, -1].reshape(-1, 3)]) / 255
    color = np.median(edge, axis=0)
    return min(GROUNDS, key=lambda name: float(np.linalg.norm(color - np.asarray(GROUNDS[name]))))


def see_things(frames: Frames, count: int = 1) -> list[Sight]:
    """Detects the `count` largest things, or fewer if the video has fewer. Things are separated by color.

    Args:
        frames: At least three frames [T, H, W, 3].
        count: Maximum number of things.
    """
    pixels_THW3: Pixels = frames.astype(np.float32) / np.float32(255)
    ground_THW3 = _ground(pixels_THW3)
    there_THW = np.linalg.norm(pixels_THW3 - ground_THW3, axis=-1) > _THERE
    names = list(COLORS)
    palette = np.asarray([COLORS[name] for name in names], dtype=np.float32)
    nearest_THW = np.linalg.norm(pixels_THW3[..., None, :] - palette, axis=-1).argmin(axis=-1)
    least = _SMALLEST_SHARE * frames.shape[1] * frames.shape[2]
    if count == 1:
        inside = nearest_THW[there_THW]
        if len(inside) == 0:
            return []
        masks = {names[int(np.bincount(inside).argmax())]: there_THW}
    else:
        areas = {name: float((there_THW & (nearest_THW == index)).sum()) for index, name in enumerate(names)}
        largest = sorted(areas, key=lambda name: -areas[name])[:count]
        masks = {name: there_THW & (nearest_THW == names.index(name)) for name in largest}
    sights = []
    for color, mask_THW in masks.items():
        seen_T = mask_THW.sum(axis=(1, 2)) >= least
        if seen_T.sum() < 3:
            continue
        track = _follow(mask_THW[seen_T])
        motion = _judge_motion(track)
        sights.append(Sight(color=color, shape=_judge_shape(track, motion), motion=motion))
    return sights


def see_hollowness(frames: Frames) -> float:
    """Returns the share of the area within the things' outlines that shows the ground.

    The share is about 0 for filled things, and 0.4 for things in neon.
    """
    pixels_THW3: Pixels = frames.astype(np.float32) / np.float32(255)
    there_THW = np.linalg.norm(pixels_THW3 - _ground(pixels_THW3), axis=-1) > _THERE
    ways = [np.logical_or.accumulate(there_THW, axis=axis) for axis in (1, 2)]
    ways += [np.flip(np.logical_or.accumulate(np.flip(there_THW, axis), axis=axis), axis) for axis in (1, 2)]
    enclosed = np.logical_and.reduce(ways).sum()
    return float(1 - there_THW.sum() / enclosed) if enclosed else 0.0


def _ground(pixels_THW3: Pixels) -> Pixels:
    """Returns the ground [T, H, W, 3] behind the things.

    Each row of the ground has a single color, so that the median of the row's ends gives it.
    """
    ends = np.concatenate([pixels_THW3[:, :, :2], pixels_THW3[:, :, -2:]], axis=2)
    row_H3 = np.median(ends, axis=(0, 2))
    return np.broadcast_to(row_H3[None, :, None], pixels_THW3.shape)


def _follow(masks_THW: NDArray[np.bool_]) -> _Track:
    """Measures the center and size of a thing in each frame."""
    height, width = masks_THW.shape[1:]
    x_HW, y_HW = places(width, height)
    area_T = masks_THW.sum(axis=(1, 2))
    return _Track(
        masks_THW=masks_THW,
        x_T=(masks_THW * x_HW).sum(axis=(1, 2)) / area_T,
        y_T=(masks_THW * y_HW).sum(axis=(1, 2)) / area_T,
        radius_T=np.sqrt(area_T / math.pi) / min(width, height),
    )


def _judge_motion(track: _Track) -> Motion:
    """Returns the motion of the tiny world that explains a track."""
    growth = 2 * math.log(track.radius_T[-1] / track.radius_T[0])
    if abs(growth) > _GREW:
        return Motion.GROWING if growth > 0 else Motion.SHRINKING
    right, down = track.x_T[-1] - track.x_T[0], track.y_T[-1] - track.y_T[0]
    if max(abs(right), abs(down)) > _MOVED:
        if abs(right) > abs(down):
            return Motion.RIGHT if right > 0 else Motion.LEFT
        return Motion.DOWN if down > 0 else Motion.UP
    if track.y_T.max() - track.y_T.min() > _BOUNCED:
        return Motion.BOUNCING
    return Motion.SPINNING if _least_overlap(track) < _TURNED else Motion.STILL


def _least_overlap(track: _Track) -> float:
    """Returns the second lowest overlap of a later mask with the first one, after aligning their centers.

    The lowest is ignored, because it may come from a single defective frame.
    """
    first = track.masks_THW[0]
    unit = min(first.shape)
    overlaps = []
    for mask, x, y in zip(track.masks_THW, track.x_T, track.y_T, strict=True):
        down, right = round((track.y_T[0] - y) * unit), round((track.x_T[0] - x) * unit)
        moved = np.roll(mask, (down, right), axis=(0, 1))
        overlaps.append(float((first & moved).sum() / (first | moved).sum()))
    return sorted(overlaps)[1]


def _judge_shape(track: _Track, motion: Motion) -> Shape:
    """Returns the shape whose drawings at the thing's positions overlap the masks best."""
    height, width = track.masks_THW.shape[1:]
    x_HW, y_HW = places(width, height)
    frames = range(0, len(track.masks_THW), max(1, len(track.masks_THW) // 5))
    angles = [2 * math.pi * index / _ANGLES for index in range(_ANGLES)] if motion is Motion.SPINNING else [0.0]
    scores = {}
    for shape in Shape:
        total = 0.0
        for index in frames:
            overlaps = []
            for angle in angles:
                drawn = _draw_alike(shape, track, index, angle, x_HW, y_HW)
                overlaps.append((drawn & track.masks_THW[index]).sum() / (drawn | track.masks_THW[index]).sum())
            total += float(max(overlaps))
        scores[shape] = total
    return max(scores, key=lambda shape: scores[shape])


def _draw_alike(shape: Shape, track: _Track, index: int, angle: float, x_HW: Plane, y_HW: Plane) -> NDArray[np.bool_]:
    """Returns the mask of a shape with the area and the center of one frame's mask."""
    unit = cover(shape, Pose(x=0, y=0, radius=0.2, angle=angle), x_HW, y_HW)
    scale = track.radius_T[index] / (math.sqrt(float(unit.sum()) / math.pi) / min(x_HW.shape))
    center_x, center_y = (float((unit * place).sum() / unit.sum()) * scale for place in (x_HW, y_HW))
    at = Pose(x=track.x_T[index] - center_x, y=track.y_T[index] - center_y, radius=0.2 * scale, angle=angle)
    drawn: NDArray[np.bool_] = cover(shape, at, x_HW, y_HW) > 0.5
    return drawn
