"""Compares the engine with plain diffusers: the same steps of the same models, alternately in one process."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.middle_models import HUNDRED_MILLION, make_middle_model
from benchmarks.support.reporting import Row, parse_arguments, report
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.decoding import decode_frames
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.snapshots import read_snapshot, write_snapshot
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.hardware import detect_hardware, use_all_cores
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.types import GenerationParams

SPEC = load_catalogue()["tiny-t2v"]
CHECKPOINT_SECONDS = 20.0
"""Default interval of a running job's snapshots."""


def main() -> None:
    """Measures the engine, and reports the rows."""
    arguments = parse_arguments("Compare the engine's own loop and decoding with plain diffusers.")
    use_all_cores()
    with tempfile.TemporaryDirectory(prefix="wan22-bench-") as name:
        folder = ensure_tiny_model(Path(name), SPEC.source_ref)
        plan = base_plan(detect_hardware(Path(name)).device)
        exact, fast = (LoadedModel(SPEC, folder, plan, exact=exact) for exact in (True, False))
        tiny = _params(steps=12)
        rows = _compare_steps("tiny", exact, tiny, rounds=3 if arguments.quick else 10)
        middle_folder = make_middle_model("t2v", Path(name) / "middle", HUNDRED_MILLION)
        middle = LoadedModel(SPEC, middle_folder, plan, exact=True)
        large = _params(steps=2, width=320, height=320)
        rows += _compare_steps("100 M parameters, 2000 tokens", middle, large, rounds=1 if arguments.quick else 4)
        rows += _measure_snapshots(middle, large, Path(name))
        rows += _measure_prompts(fast, tiny)
        rows += _compare_decoding(exact, fast, tiny, rounds=2 if arguments.quick else 6)
    report(rows, arguments.json)


def _params(**changes: Any) -> GenerationParams:
    params = GenerationParams(
        model=SPEC.id,
        model_type=SPEC.type,
        prompt="a red circle moving right",
        negative_prompt="",
        width=SPEC.size[0],
        height=SPEC.size[1],
        num_frames=17,
        fps=SPEC.fps,
        steps=SPEC.steps,
        guidance_scale=SPEC.guidance_scale,
        guidance_scale_2=SPEC.guidance_scale_2,
        flow_shift=SPEC.flow_shift,
        seed=1,
    )
    return replace(params, **changes)


def _compare_steps(name: str, model: LoadedModel, params: GenerationParams, *, rounds: int) -> list[Row]:
    """Measures the seconds of a step on both sides alternately, after an uncounted round, and compares the latents."""
    sides: dict[str, Callable[[], tuple[list[float], torch.Tensor]]] = {
        "diffusers": lambda: _steps_of_diffusers(model, params),
        "engine": lambda: _steps_of_engine(model, params),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    latents = {side: run()[1] for side, run in sides.items()}
    for index in range(rounds):
        for side in sides if index % 2 else reversed(sides):
            seconds[side].append(sum(sides[side]()[0]))
    ratio = statistics.median(
        ours / theirs for ours, theirs in zip(seconds["engine"], seconds["diffusers"], strict=True)
    )
    same = torch.equal(latents["diffusers"], latents["engine"])
    return [
        *(Row(f"{name}: a step, {side}", statistics.median(seconds[side]) / params.steps, "s") for side in sides),
        Row(f"{name}: engine / diffusers", ratio, "×", 0.97),
        Row(f"{name}: latents differ (0 or 1)", 0.0 if same else 1.0, "", 0.0),
    ]


def _steps_of_engine(model: LoadedModel, params: GenerationParams) -> tuple[list[float], torch.Tensor]:
    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), Path()))
    return [step.seconds for step in run.steps()], run.latents_BCTHW


def _steps_of_diffusers(model: LoadedModel, params: GenerationParams) -> tuple[list[float], torch.Tensor]:
    """Returns the seconds of each step, and the latents.

    A step lasts from the end of the previous step. The first one starts when the pipeline sets the sampler's steps.
    """
    pipeline = model.text
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=params.flow_shift)
    moments: list[float] = []
    set_timesteps = pipeline.scheduler.set_timesteps

    def begin(*arguments: Any, **options: Any) -> None:
        set_timesteps(*arguments, **options)
        moments.append(time.perf_counter())

    def end(_pipeline: object, _step: int, _timestep: object, values: dict[str, Any]) -> dict[str, Any]:
        moments.append(time.perf_counter())
        return values

    pipeline.scheduler.set_timesteps = begin
    latents: torch.Tensor = pipeline(
        prompt=params.prompt,
        height=params.height,
        width=params.width,
        num_frames=params.num_frames,
        num_inference_steps=params.steps,
        guidance_scale=params.guidance_scale,
        guidance_scale_2=params.guidance_scale_2,
        generator=torch.Generator().manual_seed(params.seed),
        output_type="latent",
        callback_on_step_end=end,
    ).frames
    return [after - before for before, after in pairwise(moments)], latents


def _measure_snapshots(model: LoadedModel, params: GenerationParams, folder: Path) -> list[Row]:
    """Measures writing a snapshot, and resuming from it."""
    path = folder / "snapshot.safetensors"
    conditioning = prepare_conditioning(model, params, TextCache(), Path())
    run = Denoising(model, params, conditioning)
    steps = run.steps()
    next(steps)
    written = _median_seconds(lambda: write_snapshot(path, run.snapshot(), "benchmark"))
    resumed = _median_seconds(lambda: Denoising(model, params, conditioning, read_snapshot(path, "benchmark")))
    steps.close()
    return [
        Row("writing and flushing a snapshot", 1000 * written, "ms"),
        Row("share of the time with a snapshot every 20 s", 100 * written / CHECKPOINT_SECONDS, "%", 1.0),
        Row("resuming from a snapshot", 1000 * resumed, "ms"),
        Row("size of a snapshot", path.stat().st_size / 2**20, "MB"),
    ]


def _measure_prompts(model: LoadedModel, params: GenerationParams) -> list[Row]:
    texts = TextCache()
    began = time.perf_counter()
    texts.encode(model, params.prompt)
    missed = time.perf_counter() - began
    hit = _median_seconds(lambda: texts.encode(model, params.prompt))
    return [Row("encoding a new prompt", 1000 * missed, "ms"), Row("encoding a cached prompt", 1000 * hit, "ms")]


def _compare_decoding(exact: LoadedModel, fast: LoadedModel, params: GenerationParams, *, rounds: int) -> list[Row]:
    """Compares diffusers, which decodes the whole video at once, with decoding by latent frames."""
    latents = _steps_of_engine(exact, replace(params, steps=1))[1]

    def by_diffusers() -> None:
        with torch.no_grad():
            exact.text.vae.decode(latents)

    sides: dict[str, Callable[[], object]] = {
        "diffusers": by_diffusers,
        "engine, exact": lambda: _exhaust(decode_frames(exact.text.vae, latents)),
        "engine": lambda: _exhaust(decode_frames(fast.text.vae, latents)),
    }
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            taken[side].append(_median_seconds(run, 1))
    seconds = {side: statistics.median(values) for side, values in taken.items()}
    rows = [Row(f"decoding, {side}", value, "s") for side, value in seconds.items()]
    return [*rows, Row("decoding, engine / diffusers", seconds["engine"] / seconds["diffusers"], "×", 1.0)]


def _exhaust(items: Iterator[object]) -> None:
    for _ in items:
        pass


def _median_seconds(run: Callable[[], object], rounds: int = 7) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
