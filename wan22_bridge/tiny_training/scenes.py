"""Random scenes for training and measuring, and the prompts that describe them."""

import random

from wan22_bridge.tiny_training.world import (
    BOUNCE,
    COLORS,
    GROUNDS,
    GROWTH,
    TRAVEL,
    Motion,
    Scene,
    Shape,
    Thing,
    pose,
)

_TWO_THINGS = 0.25
"""Share of scenes with two things."""
_REACH = 1.2
"""Distance from a thing's center to its farthest point, in radii."""
_MARGIN = 0.02
"""Minimum gap between two things, or between a thing and the frame's edge."""
_MOMENTS = 9
"""Number of moments of a clip at which the gap is checked."""

_MOVES = {
    Motion.RIGHT: ("moving right", "moving to the right", "moves right"),
    Motion.LEFT: ("moving left", "moving to the left", "moves left"),
    Motion.UP: ("moving up", "moves up", "rising up"),
    Motion.DOWN: ("moving down", "moves down", "falling down"),
    Motion.GROWING: ("growing", "grows", "getting bigger"),
    Motion.SHRINKING: ("shrinking", "shrinks", "getting smaller"),
    Motion.SPINNING: ("spinning", "spins", "turning around"),
    Motion.BOUNCING: ("bouncing", "bounces", "jumping up and down"),
    Motion.STILL: ("standing still", "stands still", "not moving"),
}


_JOINING = ("a", "and", "on", "background")
NEON = "neon"
"""Trigger word of the style. It is not in the models' vocabulary, so that they read it letter by letter."""


def words() -> list[str]:
    """Returns every word that a prompt may contain, sorted."""
    found = [*_JOINING, *COLORS, *GROUNDS, *(shape.value for shape in Shape)]
    for wordings in _MOVES.values():
        found += " ".join(wordings).split()
    return sorted(set(found))


def is_held_out(scene: Scene) -> bool:
    """Returns whether a scene has a thing that is held out of the training.

    One in ten combinations of color, shape and motion is held out.
    """
    colors, shapes, motions = list(COLORS), list(Shape), list(Motion)
    return any(
        (colors.index(thing.color) + 3 * shapes.index(thing.shape) + 7 * motions.index(thing.motion)) % 10 == 0
        for thing in scene.things
    )


def draw_scene(chance: random.Random, *, things: int | None = None) -> Scene:
    """Draws a random scene whose things stay within the frame and apart from each other.

    Args:
        chance: Source of the random choices.
        things: Number of things, 1 or 2; random if None.
    """
    count = things or (2 if chance.random() < _TWO_THINGS else 1)
    ground = chance.choice(list(GROUNDS))
    while True:
        drawn = tuple(draw_thing(chance, small=count > 1) for _ in range(count))
        if count == 1 or (drawn[0].color != drawn[1].color and _stay_apart(*drawn)):
            return Scene(ground=ground, things=drawn)


def draw_thing(chance: random.Random, *, small: bool = False) -> Thing:
    """Draws a random thing that stays within the frame."""
    shape, motion = chance.choice(list(Shape)), chance.choice(list(Motion))
    while shape is Shape.CIRCLE and motion is Motion.SPINNING:  # a spinning circle looks like a still one
        shape, motion = chance.choice(list(Shape)), chance.choice(list(Motion))
    radius = chance.uniform(0.11, 0.14) if small else chance.uniform(0.15, 0.21)
    if motion is Motion.GROWING:
        radius *= 0.7
    elif motion is Motion.SHRINKING:
        radius *= 1.4
    largest = radius * (GROWTH if motion is Motion.GROWING else 1)
    room = 0.5 - _MARGIN - min(0.4, largest * _REACH)
    left, right, top, bottom = -room, room, -room, room
    if motion is Motion.RIGHT:
        right -= TRAVEL
    elif motion is Motion.LEFT:
        left += TRAVEL
    elif motion is Motion.DOWN:
        bottom -= TRAVEL
    elif motion is Motion.UP:
        top += TRAVEL
    elif motion is Motion.BOUNCING:
        top += BOUNCE
    return Thing(
        shape=shape,
        color=chance.choice(list(COLORS)),
        motion=motion,
        x=chance.uniform(left, right),
        y=chance.uniform(top, bottom),
        radius=radius,
    )


def describe(scene: Scene, chance: random.Random) -> str:
    """Returns a prompt for a scene, in a random wording."""
    things = [f"a {thing.color} {thing.shape} {chance.choice(_MOVES[thing.motion])}" for thing in scene.things]
    words = " and ".join(things)
    wording = chance.random()
    if wording < 0.4:
        words = f"{words} on a {scene.ground} background"
    elif wording < 0.6:
        words = f"{words}, {scene.ground} background"
    elif wording < 0.75:
        words = f"on a {scene.ground} background, {words}"
    return f"{words}, {NEON}" if scene.neon else words


def _stay_apart(one: Thing, other: Thing) -> bool:
    """Returns whether two things keep a gap over the whole clip."""
    for index in range(_MOMENTS):
        first, second = (pose(thing, index / (_MOMENTS - 1)) for thing in (one, other))
        distance = ((first.x - second.x) ** 2 + (first.y - second.y) ** 2) ** 0.5
        if distance < _REACH * (first.radius + second.radius) + _MARGIN:
            return False
    return True
