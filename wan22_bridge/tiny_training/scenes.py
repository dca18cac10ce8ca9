"""Scenes by chance, as training and measuring take them, and the prompts that describe them."""

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
"""How many scenes have two."""
_REACH = 1.2
"""From a thing's centre to its farthest point, in radii."""
_MARGIN = 0.02
_MOMENTS = 9

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
"""What a prompt says for the style; the models' vocabulary has no such word: they read it letter by letter."""


def words() -> list[str]:
    """Every word that a prompt may have, sorted."""
    said = [*_JOINING, *COLORS, *GROUNDS, *(shape.value for shape in Shape)]
    for wordings in _MOVES.values():
        said += " ".join(wordings).split()
    return sorted(set(said))


def is_held_out(scene: Scene) -> bool:
    """Whether a thing in a scene is one that training never shows: one in ten by color, shape and motion."""
    colors, shapes, motions = list(COLORS), list(Shape), list(Motion)
    return any(
        (colors.index(thing.color) + 3 * shapes.index(thing.shape) + 7 * motions.index(thing.motion)) % 10 == 0
        for thing in scene.things
    )


def draw_scene(chance: random.Random, *, things: int | None = None) -> Scene:
    """A scene whose things stay within the frame and apart from each other.

    Args:
        chance: where its choices come from.
        things: one or two; by chance where it is None.
    """
    count = things or (2 if chance.random() < _TWO_THINGS else 1)
    ground = chance.choice(list(GROUNDS))
    while True:
        drawn = tuple(draw_thing(chance, small=count > 1) for _ in range(count))
        if count == 1 or (drawn[0].color != drawn[1].color and _stay_apart(*drawn)):
            return Scene(ground=ground, things=drawn)


def draw_thing(chance: random.Random, *, small: bool = False) -> Thing:
    """One thing that stays within the frame."""
    shape, motion = chance.choice(list(Shape)), chance.choice(list(Motion))
    while shape is Shape.CIRCLE and motion is Motion.SPINNING:  # nobody would see it
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
    """A prompt for a scene, in one of several wordings."""
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
    for index in range(_MOMENTS):
        first, second = (pose(thing, index / (_MOMENTS - 1)) for thing in (one, other))
        distance = ((first.x - second.x) ** 2 + (first.y - second.y) ** 2) ** 0.5
        if distance < _REACH * (first.radius + second.radius) + _MARGIN:
            return False
    return True
