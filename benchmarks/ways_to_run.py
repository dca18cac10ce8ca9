"""Compares every way to run a model with the plain run: speed, PSNR, and whether videos still show the prompt."""

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.middle_models import HUNDRED_MILLION, make_middle_model
from benchmarks.support.reporting import Row, parse_arguments, report
from benchmarks.support.tiny_scores import Case, Judgment, draw_cases, frames_psnr, make_videos, score
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.models.architecture import find_architecture
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.planning.footprint import FootprintMeter
from wan22_bridge.planning.hardware import detect_hardware, use_all_cores
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import RequestShape
from wan22_bridge.requests import GenerationRequest, resolve_params
from wan22_bridge.tuning.trials import list_trials, run_trials
from wan22_bridge.types import Frames, GenerationParams

SPEC = load_catalogue()["tiny-t2v"]
SHAPES = {"wan2.2-t2v-a14b": (832, 480, 81), "wan2.2-ti2v-5b": (1280, 704, 121)}


def main() -> None:
    """Measures each way, and reports the rows."""
    arguments = parse_arguments("Compare every way to run a model with the plain run; trace the memory of decoding.")
    use_all_cores()
    with tempfile.TemporaryDirectory(prefix="wan22-bench-") as name:
        scratch = Path(name)
        if arguments.quick:
            folder, size, steps = ensure_tiny_model(scratch, "t2v"), "128x128", 12
        else:
            folder, size, steps = make_middle_model("t2v", scratch / "middle", HUNDRED_MILLION), "256x256", 16
        request = GenerationRequest(prompt="a red circle", model=SPEC.id, resolution=size, steps=steps, seed=1)
        params = resolve_params(request, [SPEC])
        rows = _try_all(folder, params, scratch)
        rows += _judge_all(draw_cases(12 if arguments.quick else 40), scratch)
    report([*rows, *_trace_decoding()], arguments.json)


def _try_all(folder: Path, params: GenerationParams, scratch: Path) -> list[Row]:
    rows: list[Row] = []
    plain = 0.0
    for outcome in run_trials(SPEC, folder, params, scratch, detect_hardware(scratch).device):
        name = outcome.trial.name
        if outcome.error:
            rows.append(Row(f"{name}: failed, {outcome.error}", 1, "", 0))
            continue
        plain = plain or outcome.seconds_per_step
        rows.append(Row(f"{name}: a step / plain", outcome.seconds_per_step / plain, "×"))
        if outcome.latents_psnr_db != float("inf"):
            rows.append(Row(f"{name}: latents", outcome.latents_psnr_db, "dB"))
        if outcome.frames_psnr_db != float("inf"):
            rows.append(Row(f"{name}: frames", outcome.frames_psnr_db, "dB"))
    return rows


def _judge_all(cases: list[Case], scratch: Path) -> list[Row]:
    """Runs the trained tiny model in each way, and compares its videos with the plain run and with their prompts."""
    rows: list[Row] = []
    folder, plain = ensure_tiny_model(scratch, SPEC.source_ref), list[Judgment]()
    params = resolve_params(GenerationRequest(prompt="a red circle", model=SPEC.id), [SPEC])
    for trial in list_trials("cpu", params):
        title = f"{SPEC.id}, {trial.name}"
        model = LoadedModel(SPEC, folder, trial.plan, exact=True, scratch=scratch)
        try:
            videos = make_videos(model, cases[:2], step_cache=trial.step_cache)
            if plain and all(np.array_equal(*pair) for pair in _frames(videos, plain[:2])):
                rows.append(Row(f"{title}: bit-identical videos", 1, ""))
                continue
            videos += make_videos(model, cases[2:], step_cache=trial.step_cache)
        finally:
            model.close()
        plain = plain or videos
        seconds, usual = (statistics.median(video.denoise_seconds for video in made) for made in (videos, plain))
        rows.append(Row(f"{title}: denoising / plain", seconds / usual, "×"))
        if videos is not plain:
            likeness = statistics.mean(frames_psnr(*pair) for pair in _frames(videos, plain))
            rows.append(Row(f"{title}: frames", likeness, "dB"))
        rows.append(Row(f"{title}: correct in color, shape and motion", score(cases, videos).mean, "%"))
    return rows


def _frames(videos: list[Judgment], others: list[Judgment]) -> list[tuple[Frames, Frames]]:
    return [(video.frames, other.frames) for video, other in zip(videos, others, strict=True)]


def _trace_decoding() -> list[Row]:
    """Traces the peak of decoding for the published models, which needs no weights."""
    rows = []
    for model_id, (width, height, frames) in SHAPES.items():
        spec = load_catalogue()[model_id]
        meter = FootprintMeter(find_architecture(spec), "cuda", base_plan("cuda").dtypes)
        needed = meter.measure(RequestShape(width=width, height=height, num_frames=frames)).decode_bytes
        for tile, size in needed.items():
            how = f"in tiles of {tile} px" if tile else "whole frames, streamed"
            rows.append(Row(f"{model_id} at {width}x{height}, decoding {how}: peak, traced", size / 1e9, "GB"))
    return rows


if __name__ == "__main__":
    main()
