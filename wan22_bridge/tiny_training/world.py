"""World of the tiny models: colored shapes ("things") that move on a plain background ("ground")."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating[Any]]
"""One value for each pixel, [H, W]."""
Pixels = NDArray[np.float32]
"""Frames [T, H, W, 3] in 0..1."""

COLORS = {
    "red": (0.90, 0.12, 0.12),
    "orange": (1.00, 0.55, 0.05),
    "yellow": (0.98, 0.90, 0.15),
    "green": (0.10, 0.70, 0.20),
    "cyan": (0.15, 0.80, 0.85),
    "blue": (0.12, 0.25, 0.95),
    "purple": (0.58, 0.15, 0.80),
    "white": (0.97, 0.97, 0.97),
}
GROUNDS = {
    "black": (0.03, 0.03, 0.03),
    "gray": (0.45, 0.45, 0.45),
    "navy": (0.04, 0.06, 0.25),
    "brown": (0.35, 0.22, 0.12),
    "pink": (0.98, 0.72, 0.78),
}
EDGE = 0.02
"""Width of a shape's soft edge, as a share of the frame's shorter side."""
_GRADIENT = 0.12
"""Share by which the ground is lighter at its upper edge, and darker at its lower edge."""


class Shape(StrEnum):
    """Shape of a thing."""

    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"


class Motion(StrEnum):
    """Motion of a thing, which takes the whole clip at any frame count."""

    RIGHT = "right"
    LEFT = "left"
    UP = "up"
    DOWN = "down"
    GROWING = "growing"
    SHRINKING = "shrinking"
    SPINNING = "spinning"
    BOUNCING = "bouncing"
    STILL = "still"


TRAVEL = 0.42
"""Distance that a thing moves, as a share of the frame's shorter side."""
GROWTH = 2.2
"""Factor by which a growing or shrinking thing's radius changes."""
BOUNCE = 0.34
"""Height of the single bounce, as a share of the frame's shorter side."""
TURN = 2 * math.pi / 3
"""Angle of a spin, in radians clockwise."""
HOLLOW = 0.62
"""Inner radius of a shape in neon, as a share of its outer radius."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One moving shape. Lengths are shares of the frame's shorter side, from the frame's center, y downwards."""

    shape: Shape
    color: str
    motion: Motion
    x: float
    """Horizontal center in the first frame."""
    y: float
    """Vertical center in the first frame."""
    radius: float
    """Radius in the first frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Content of one clip."""

    ground: str
    things: tuple[Thing, ...]
    neon: bool = False
    """Whether only the outlines of things are drawn: a style that the base models are not trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pose:
    """Position, size and angle of a thing at one moment."""

    x: float
    y: float
    radius: float
    angle: float
    """Angle in radians, clockwise."""


def pose(thing: Thing, progress: float) -> Pose:
    """Returns a thing's pose at `progress` of the clip, in 0..1."""
    x, y, radius, angle = thing.x, thing.y, thing.radius, 0.0
    if thing.motion is Motion.RIGHT:
        x += TRAVEL * progress
    elif thing.motion is Motion.LEFT:
        x -= TRAVEL * progress
    elif thing.motion is Motion.DOWN:
        y += TRAVEL * progress
    elif thing.motion is Motion.UP:
        y -= TRAVEL * progress
    elif thing.motion is Motion.GROWING:
        radius *= GROWTH**progress
    elif thing.motion is Motion.SHRINKING:
        radius *= GROWTH**-progress
    elif thing.motion is Motion.SPINNING:
        angle = TURN * progress
    elif thing.motion is Motion.BOUNCING:
        y -= BOUNCE * math.sin(math.pi * progress)
    return Pose(x=x, y=y, radius=radius, angle=angle)


def render(scene: Scene, *, num_frames: int, width: int, height: int) -> Pixels:
    """Renders the frames of a scene, with soft edges."""
    x_HW, y_HW = places(width, height)
    light_HW1 = (1 - 2 * _GRADIENT * y_HW)[..., None]
    ground = np.clip(np.asarray(GROUNDS[scene.ground], dtype=np.float32) * light_HW1, 0, 1)
    frames: Pixels = np.repeat(ground[None].astype(np.float32), num_frames, axis=0)
    for index in range(num_frames):
        progress = index / max(1, num_frames - 1)
        for thing in scene.things:
            at = pose(thing, progress)
            cover_HW1 = cover(thing.shape, at, x_HW, y_HW)[..., None]
            if scene.neon:
                cover_HW1 -= cover(thing.shape, replace(at, radius=HOLLOW * at.radius), x_HW, y_HW)[..., None]
            color = np.asarray(COLORS[thing.color], dtype=np.float32)
            frames[index] = frames[index] * (1 - cover_HW1) + color * cover_HW1
    return frames


def places(width: int, height: int) -> tuple[Plane, Plane]:
    """Returns the x and y of each pixel's center, in the units of a `Thing`."""
    unit = min(width, height)
    y_HW, x_HW = np.meshgrid(
        (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / unit,
        (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / unit,
        indexing="ij",
    )
    return x_HW, y_HW


def cover(shape: Shape, at: Pose, x_HW: Plane, y_HW: Plane) -> Plane:
    """Returns the share of each pixel that a shape covers, in 0..1."""
    cosine, sine = math.cos(at.angle), math.sin(at.angle)
    x, y = x_HW - at.x, y_HW - at.y
    x, y = x * cosine + y * sine, y * cosine - x * sine
    smooth = np.clip(0.5 - _distance(shape, x, y, at.radius) / EDGE, 0, 1)
    covered: Plane = smooth * smooth * (3 - 2 * smooth)
    return covered


def _distance(shape: Shape, x: Plane, y: Plane, radius: float) -> Plane:
    """Returns the signed distance from a shape's outline, negative inside. It is accurate only near the outline."""
    if shape is Shape.CIRCLE:
        distance = np.hypot(x, y) - radius
    elif shape is Shape.SQUARE:
        distance = np.maximum(np.abs(x), np.abs(y)) - 0.85 * radius
    elif shape is Shape.TRIANGLE:
        distance = np.maximum(0.866 * np.abs(x) - 0.5 * y, y) - 0.6 * radius
    else:
        tips, notch = 5, 0.5
        sector = np.mod(np.arctan2(x, -y), 2 * math.pi / tips)
        sector = np.minimum(sector, 2 * math.pi / tips - sector)
        length = np.hypot(x, y)
        along, across = length * np.cos(sector), length * np.sin(sector)
        tip = np.array([1.15 * radius, 0.0])
        inner = notch * 1.15 * radius * np.array([math.cos(math.pi / tips), math.sin(math.pi / tips)])
        normal = np.array([inner[1] - tip[1], tip[0] - inner[0]]) / np.linalg.norm(inner - tip)
        distance = (along - tip[0]) * normal[0] + across * normal[1]
    return distance
