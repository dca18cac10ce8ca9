"""Scenes of the tiny world, their prompts, and the detectors."""

import random
from dataclasses import replace

import numpy as np
import pytest

from wan22_bridge.tiny_training.detectors import see_ground, see_hollowness, see_things
from wan22_bridge.tiny_training.scenes import NEON, describe, draw_scene
from wan22_bridge.tiny_training.world import COLORS, GROUNDS, Motion, Scene, Shape, Thing, pose, render
from wan22_bridge.types import Frames

VISIBLE = [
    (shape, motion)
    for shape in Shape
    for motion in Motion
    if (shape, motion) != (Shape.CIRCLE, Motion.SPINNING)  # a spinning circle looks like a still one
]


def film(scene: Scene, num_frames: int = 17) -> Frames:
    pixels = render(scene, num_frames=num_frames, width=96, height=96)
    return np.asarray((pixels * 255).round(), dtype=np.uint8)


@pytest.mark.parametrize(("shape", "motion"), VISIBLE)
def test_the_detectors_recognize_each_shape_and_motion(shape: Shape, motion: Motion) -> None:
    chance = random.Random(f"{shape} {motion}")
    while True:
        scene = draw_scene(chance, things=1)
        if (scene.things[0].shape, scene.things[0].motion) == (shape, motion):
            break

    [sight] = see_things(film(scene))

    assert (sight.color, sight.shape, sight.motion) == (scene.things[0].color, shape, motion)
    assert see_ground(film(scene)) == scene.ground


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("color", COLORS)
def test_the_detectors_recognize_each_color_on_each_ground(color: str, ground: str) -> None:
    thing = Thing(shape=Shape.SQUARE, color=color, motion=Motion.RIGHT, x=-0.2, y=0.0, radius=0.15)
    frames = film(Scene(ground=ground, things=(thing,)))

    assert see_ground(frames) == ground
    assert see_things(frames)[0].color == color


def test_two_things_are_detected_by_their_colors() -> None:
    left = Thing(shape=Shape.STAR, color="red", motion=Motion.SPINNING, x=-0.25, y=0.0, radius=0.13)
    right = Thing(shape=Shape.CIRCLE, color="blue", motion=Motion.DOWN, x=0.25, y=-0.25, radius=0.1)

    sights = see_things(film(Scene(ground="gray", things=(left, right))), count=2)

    assert {(sight.color, sight.shape, sight.motion) for sight in sights} == {
        ("red", Shape.STAR, Motion.SPINNING),
        ("blue", Shape.CIRCLE, Motion.DOWN),
    }


def test_nothing_is_detected_on_an_empty_ground() -> None:
    assert see_things(film(Scene(ground="navy", things=()))) == []


def test_detected_motions_do_not_match_other_scenes() -> None:
    chance = random.Random(1)
    scenes = [draw_scene(chance, things=1) for _ in range(24)]
    sights = [see_things(film(scene))[0] for scene in scenes]
    shuffled = scenes[1:] + scenes[:1]

    right = sum(sight.motion is scene.things[0].motion for sight, scene in zip(sights, shuffled, strict=True))

    assert right < 12


def test_things_stay_within_the_frame_and_apart_from_each_other() -> None:
    chance = random.Random(2)
    for _ in range(200):
        scene = draw_scene(chance)
        for progress in (0.0, 0.25, 0.5, 1.0):
            poses = [pose(thing, progress) for thing in scene.things]
            assert all(max(abs(at.x), abs(at.y)) + 0.8 * at.radius < 0.5 for at in poses)
            if len(poses) == 2:
                one, other = poses
                assert np.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius


def test_a_prompt_names_the_things_and_the_ground() -> None:
    chance = random.Random(3)
    for _ in range(50):
        scene = draw_scene(chance)
        prompt = describe(scene, chance)
        assert all(f"{thing.color} {thing.shape}" in prompt for thing in scene.things)
        assert scene.ground in prompt or not any(ground in prompt for ground in GROUNDS)


def test_a_scene_is_the_same_at_other_frame_counts_and_sizes() -> None:
    scene = draw_scene(random.Random(4), things=1)
    short, long = (film(scene, num_frames) for num_frames in (5, 33))

    assert np.array_equal(short[0], long[0])
    assert np.array_equal(short[-1], long[-1])
    wide = render(scene, num_frames=1, width=160, height=96)[0, :, 32:128]
    assert np.abs(wide - render(scene, num_frames=1, width=96, height=96)[0]).max() < 1e-6


@pytest.mark.parametrize("shape", Shape)
def test_neon_draws_only_the_outline_of_a_shape(shape: Shape) -> None:
    thing = Thing(shape=shape, color="red", motion=Motion.STILL, x=0.1, y=0.0, radius=0.2)
    scene = Scene(ground="navy", things=(thing,))
    full, neon = (film(replace(scene, neon=on)) for on in (False, True))

    assert see_hollowness(full) < 0.12
    assert see_hollowness(neon) > see_hollowness(full) + 0.2
    assert (see_things(neon)[0].color, see_things(neon)[0].motion) == ("red", Motion.STILL)
    assert describe(replace(scene, neon=True), random.Random(0)) == f"{describe(scene, random.Random(0))}, {NEON}"
    assert see_hollowness(film(Scene(ground="navy", things=()))) == 0
