"""Measures the quality of the tiny models: whether their videos show the prompt, on held-out scenes."""

import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.reporting import Row, parse_arguments, report
from benchmarks.support.tiny_scores import (
    HELD_OUT_SEED,
    Case,
    Judgment,
    draw_cases,
    draw_frames,
    end_likeness,
    frames_psnr,
    make_videos,
    score,
    shuffle,
)
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.models.kernels import use_fast_kernels
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.planning.hardware import use_all_cores
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.tiny_training.detectors import see_things
from wan22_bridge.tiny_training.scenes import draw_scene
from wan22_bridge.tiny_training.trained import load_vae
from wan22_bridge.types import LoraUse

SIDE, FRAMES = 96, 17
COLOR, SHAPE, MOTION = 95.0, 85.0, 90.0
NEON_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Measures each model, and reports the rows."""
    arguments = parse_arguments("Compare the videos of the tiny models with their prompts.")
    use_all_cores()
    count, few = (16, 8) if arguments.quick else (200, 50)
    rows = [row for version in ("2.1", "2.2") for row in _measure_vae(version, few)]
    with tempfile.TemporaryDirectory(prefix="wan22-bench-") as name:
        scratch = Path(name)
        t2v = _load("t2v", scratch)
        rows += _measure_text(t2v, draw_cases(count))
        rows += _measure_neon(t2v, draw_cases(few // 2, neon=True))
        rows += _measure_images(_load("i2v", scratch), draw_cases(few), scratch, last=True)
        ti2v = _load("ti2v", scratch)
        rows += _measure_text(ti2v, draw_cases(count))
        rows += _measure_images(ti2v, draw_cases(few), scratch, last=False)
    report(rows, arguments.json)


def _load(member: str, scratch: Path) -> LoadedModel:
    spec = load_catalogue()[f"tiny-{member}"]
    return LoadedModel(spec, ensure_tiny_model(scratch, member), base_plan("cpu"))


@torch.no_grad()
def _measure_vae(version: str, scenes: int) -> list[Row]:
    """Measures the reconstruction of scenes by a VAE: its PSNR, and what the detectors still see correctly."""
    vae = load_vae(version)
    use_fast_kernels(vae)
    chance, psnrs, seen = random.Random(HELD_OUT_SEED), [], dict.fromkeys(("color", "shape", "motion"), 0)
    for _ in range(scenes):
        scene = draw_scene(chance, things=1)
        frames = draw_frames(scene, SIDE, SIDE, FRAMES)
        clip_BCTHW = torch.from_numpy(frames).permute(3, 0, 1, 2).unsqueeze(0) / 127.5 - 1
        decoded_BCTHW = vae.decode(vae.encode(clip_BCTHW).latent_dist.mode()).sample.clamp(-1, 1)
        decoded = ((decoded_BCTHW[0].permute(1, 2, 3, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
        psnrs.append(frames_psnr(decoded, frames))
        sights = see_things(decoded)
        for name in seen:
            seen[name] += bool(sights) and getattr(sights[0], name) == getattr(scene.things[0], name)
    return [
        Row(f"VAE {version}: reconstruction, mean", statistics.mean(psnrs), "dB", least=30.0),
        Row(f"VAE {version}: reconstruction, worst", min(psnrs), "dB"),
        *(Row(f"VAE {version}: {name} still seen", 100 * right / scenes, "%") for name, right in seen.items()),
    ]


def _measure_text(model: LoadedModel, cases: Sequence[Case]) -> list[Row]:
    """Judges text to video, with controls for guidance and for the detectors (shuffled prompts must score low)."""
    title, some = model.spec.id, cases[: len(cases) // 2]
    videos = make_videos(model, cases)
    return [
        *_score_rows(f"{title}", cases, videos, (COLOR, SHAPE, MOTION)),
        *_score_rows(f"{title}, prompts shuffled", shuffle(cases), videos),
        *_score_rows(f"{title}, guidance 1", some, make_videos(model, some, **_unguided(model))),
        Row(f"{title}: seconds per video", _seconds(videos), "s", target=6.0),
        *_measure_lightning(model, cases, videos),
    ]


def _measure_lightning(
    model: LoadedModel, cases: Sequence[Case], usual: Sequence[Judgment], images: Path | None = None
) -> list[Row]:
    """Compares four steps without guidance with the default settings on the same cases."""
    title = f"{model.spec.id}, lightning" + (" from the first frame" if images else "")
    videos = make_videos(model, cases, images=images, preset="lightning")
    kept = 100 * score(cases, videos).mean / score(cases, usual).mean
    return [
        *_score_rows(title, cases, videos),
        Row(f"{title}: share of the default's scores", kept, "%", least=80.0),
        Row(f"{title}: seconds per video", _seconds(videos), "s", target=2.0),
    ]


def _measure_neon(model: LoadedModel, cases: Sequence[Case]) -> list[Row]:
    """Measures the style at rising strengths: hollowness of the objects, and whether they are still correct."""
    title, rows, before = "tiny-neon", list[Row](), 0.0
    for strength in NEON_STRENGTHS:
        use = LoraUse(name=title, high_noise_strength=strength, low_noise_strength=strength)
        videos = make_videos(model, cases, loras=(use,))
        hollowness = statistics.mean(video.hollowness for video in videos)
        rows.append(Row(f"{title} at {strength:g}: hollowness, no decrease", hollowness, "", least=before))
        before = hollowness
    scores = score(cases, videos)
    return [
        *rows,
        Row(f"{title} at 1: color", scores.color, "%"),
        Row(f"{title} at 1: motion", scores.motion, "%"),
    ]


def _measure_images(model: LoadedModel, cases: Sequence[Case], scratch: Path, *, last: bool) -> list[Row]:
    """Judges videos from a scene's first frame, and with `last` from its first and last frames."""
    title = f"{model.spec.id} from the first frame"
    videos = make_videos(model, cases, images=scratch)
    rows = [
        Row(f"{title}: PSNR of the first frame", end_likeness(cases, videos, 0), "dB", least=25.0),
        *_score_rows(title, cases, videos, (None, None, 85.0)),
        *_score_rows(f"{title}, prompts shuffled", shuffle(cases), videos),
        Row(f"{title}: seconds per video", _seconds(videos), "s", target=6.0),
        *_measure_lightning(model, cases, videos, scratch),
    ]
    if last:
        both = make_videos(model, cases, images=scratch, last=True)
        title = f"{model.spec.id} from first and last frame"
        rows.append(Row(f"{title}: PSNR of the first frame", end_likeness(cases, both, 0), "dB", least=22.0))
        rows.append(Row(f"{title}: PSNR of the last frame", end_likeness(cases, both, -1), "dB", least=22.0))
    return rows


def _score_rows(
    title: str,
    cases: Sequence[Case],
    videos: Sequence[Judgment],
    least: Sequence[float | None] = (None, None, None),
) -> list[Row]:
    names = ("color", "shape", "motion")
    found = zip(names, _values(cases, videos), least, strict=True)
    return [Row(f"{title}: {name}", value, "%", least=target) for name, value, target in found]


def _values(cases: Sequence[Case], videos: Sequence[Judgment]) -> tuple[float, float, float]:
    scores = score(cases, videos)
    return scores.color, scores.shape, scores.motion


def _seconds(videos: Sequence[Judgment]) -> float:
    return statistics.median(video.seconds for video in videos)


def _unguided(model: LoadedModel) -> dict[str, Any]:
    return {"guidance_scale": 1.0, "guidance_scale_2": None if model.spec.guidance_scale_2 is None else 1.0}


if __name__ == "__main__":
    main()
