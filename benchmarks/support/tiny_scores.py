"""Videos of the tiny models, judged by the detectors."""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.loras import LoraRack
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.decoding import decode_frames
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.requests import GenerationRequest, InputImage, resolve_params
from wan22_bridge.tiny_training.detectors import Sight, see_ground, see_hollowness, see_things
from wan22_bridge.tiny_training.scenes import describe, draw_scene, is_held_out
from wan22_bridge.tiny_training.world import Scene, render
from wan22_bridge.types import Frames

HELD_OUT_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A scene with one object, and the prompt that describes it."""

    scene: Scene
    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgment:
    """Content of one video, as the detectors see it."""

    sight: Sight | None
    """None if the detectors see no object."""
    ground: str
    hollowness: float
    """About 0 for filled objects, 0.4 for outlines."""
    frames: Frames
    seconds: float
    denoise_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Percentage of correct videos."""

    color: float
    shape: float
    motion: float
    ground: float
    """Counts only videos whose prompt names the background."""

    @property
    def mean(self) -> float:
        """Mean over color, shape and motion."""
        return (self.color + self.shape + self.motion) / 3


def draw_cases(count: int, seed: int = HELD_OUT_SEED, *, neon: bool = False) -> list[Case]:
    """Draws held-out scenes (by color, shape and motion) with prompts and seeds."""
    chance, cases = random.Random(seed), list[Case]()
    while len(cases) < count:
        scene = replace(draw_scene(chance, things=1), neon=neon)
        if is_held_out(scene):
            cases.append(Case(scene=scene, prompt=describe(scene, chance), seed=seed + len(cases)))
    return cases


def make_videos(
    model: LoadedModel, cases: Sequence[Case], *, images: Path | None = None, last: bool = False, **request: Any
) -> list[Judgment]:
    """Generates and judges a video for each case.

    Args:
        model: a built-in model.
        cases: the scenes and prompts.
        images: a folder for the first frames, which the model then gets as input; None for text to video.
        last: whether the model also gets the last frame.
        request: other fields of the requests.
    """
    spec, texts, judgments = model.spec, TextCache(), []
    for case in cases:
        given: dict[str, Any] = {}
        if images is not None:
            ends = draw_frames(case.scene, *spec.size, spec.num_frames)[[0, -1]]
            for name, end in zip(("image", "end_image")[: 1 + last], ends, strict=False):
                Image.fromarray(end).save(images / f"{name}.png")
                given[name] = InputImage(key=f"{name}.png", width=end.shape[1], height=end.shape[0])
        asked: dict[str, Any] = {"prompt": case.prompt, "model": spec.id, "seed": case.seed} | given | request
        params = resolve_params(GenerationRequest(**asked), [spec])
        started = time.perf_counter()
        conditioning = prepare_conditioning(model, params, texts, images or Path())
        run = Denoising(model, params, conditioning, loras=LoraRack(Path(), params.loras))
        denoise_seconds = sum(step.seconds for step in run.steps())
        parts = decode_frames(model.bring("vae"), run.latents_BCTHW, model.plan.vae_tile)
        frames = np.concatenate([part for part in parts if len(part)])
        seconds = time.perf_counter() - started
        judgments.append(
            Judgment(
                sight=next(iter(see_things(frames)), None),
                ground=see_ground(frames),
                hollowness=see_hollowness(frames),
                frames=frames,
                seconds=seconds,
                denoise_seconds=denoise_seconds,
            )
        )
    return judgments


def score(cases: Sequence[Case], judgments: Sequence[Judgment]) -> Scores:
    """Compares the videos with their cases."""

    def percent(right: list[bool]) -> float:
        return 100 * sum(right) / len(right) if right else float("nan")

    pairs = list(zip(cases, judgments, strict=True))
    parts = {
        name: percent([_part(found.sight, name) == getattr(case.scene.things[0], name) for case, found in pairs])
        for name in ("color", "shape", "motion")
    }
    named = [found.ground == case.scene.ground for case, found in pairs if case.scene.ground in case.prompt.split()]
    return Scores(**parts, ground=percent(named))


def shuffle(cases: Sequence[Case]) -> list[Case]:
    """Returns the cases rotated by one, so that a video matches its case by chance only."""
    return [*cases[1:], cases[0]]


def end_likeness(cases: Sequence[Case], judgments: Sequence[Judgment], index: int) -> float:
    """Returns the mean PSNR in dB of the frames at an index against the scenes' frames."""
    psnrs = []
    for case, found in zip(cases, judgments, strict=True):
        num_frames, height, width, _ = found.frames.shape
        psnrs.append(frames_psnr(found.frames[index], draw_frames(case.scene, width, height, num_frames)[index]))
    return statistics.mean(psnrs)


def frames_psnr(found: Frames, expected: Frames) -> float:
    """Returns the peak signal-to-noise ratio in dB; infinite for equal pixels."""
    error = np.square(found.astype(np.float64) - expected).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def draw_frames(scene: Scene, width: int, height: int, num_frames: int) -> Frames:
    """Renders a scene as a perfect model would."""
    pixels = render(scene, num_frames=num_frames, width=width, height=height)
    return (pixels * 255).round().astype(np.uint8)


def _part(sight: Sight | None, name: str) -> Any:
    return None if sight is None else getattr(sight, name)
