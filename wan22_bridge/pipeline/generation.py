"""One generation, from the request's input files to a video on the disk."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from wan22_bridge.media.output import LAST_FRAME, THUMBNAIL, VIDEO, VideoOutput
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.loras import LoraRack
from wan22_bridge.pipeline.checkpointer import Checkpointer
from wan22_bridge.pipeline.conditioning import Conditioning, prepare_in_parts
from wan22_bridge.pipeline.decoding import count_parts, decode_frames
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.previews import PreviewWriter
from wan22_bridge.pipeline.progress import DecodeTimes, ProgressReporter
from wan22_bridge.pipeline.segments import generate_segments
from wan22_bridge.pipeline.stage_runner import StageRunner
from wan22_bridge.pipeline.text_cache import TextCache, count_dropped_tokens
from wan22_bridge.pipeline.usage import Usage, UsageMeter
from wan22_bridge.planning.limits import shape_of
from wan22_bridge.planning.planner import Planner
from wan22_bridge.plans import HardwareProfile, OptimizationPlan, Quantization, RequestShape
from wan22_bridge.types import Checkpoint, GenerationParams, GenerationResult, Preview, Progress, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedResources:
    """Objects that all generations of one model share."""

    planner: Planner
    """The model's planner."""
    hardware: Callable[[LoadedModel], HardwareProfile]
    """Returns the machine as it would be now without a model."""
    texts: TextCache
    """Embeddings of recent texts."""
    decode_times: DecodeTimes
    """Measured decoding times of the models."""
    loras: Path
    """Folder of LoRAs."""


def generate(
    model: LoadedModel,
    params: GenerationParams,
    folder: Path,
    *,
    inputs: Path,
    checkpoint: Checkpoint | None,
    preview: Preview | None,
    shared: SharedResources,
) -> Generator[Progress, None, GenerationResult]:
    """Generates one video into `folder`; closing the generator stops the generation.

    `ModelIntegrationBridge.generate` documents the arguments and the errors.
    """

    def generate_part(
        part: GenerationParams, part_folder: Path, part_inputs: Path, skipped_frames: int
    ) -> Generator[Progress, None, GenerationResult]:
        output = VideoOutput(part_folder, part, skipped_frames=skipped_frames)
        return _generate_part(model, part, output, part_inputs, checkpoint, preview, shared)

    if params.segments:
        return (yield from generate_segments(params, folder, inputs, checkpoint, generate_part))
    continued = inputs / params.image if params.joined_frames and params.image else None
    output = VideoOutput(folder, params, continued=continued)
    result = yield from _generate_part(model, params.parts[0], output, inputs, checkpoint, preview, shared)
    return replace(result, parameters_used=params.to_dict())


def _generate_part(
    model: LoadedModel,
    params: GenerationParams,
    output: VideoOutput,
    inputs: Path,
    checkpoint: Checkpoint | None,
    preview: Preview | None,
    shared: SharedResources,
) -> Generator[Progress, None, GenerationResult]:
    """Generates one part of a video, in one run of the denoising loop."""
    loras = LoraRack(shared.loras, params.loras)
    progress = ProgressReporter(params.steps_to_run)
    checkpointer = Checkpointer(model, params, loras, checkpoint)
    shape = _request_shape(params, loras)
    runner = StageRunner(model, shared.planner, lambda: shared.hardware(model), shape, progress)
    pixels = params.width * params.height * params.num_frames
    usage = UsageMeter(model.device)

    def prepare() -> Generator[Progress, None, Conditioning]:
        return _prepare(prepare_in_parts(model, params, shared.texts, inputs), progress)

    def denoise() -> Generator[Progress, None, torch.Tensor]:
        run = Denoising(model, params, conditioning, checkpointer.find_snapshot(), loras)
        previews = PreviewWriter(preview, model.preview_factors, fps=params.fps)
        decode_seconds = shared.decode_times.estimate(params.model, pixels)
        return _denoise(run, checkpointer, previews, progress, decode_seconds)

    try:
        yield progress.enter(Stage.PREPARING_INPUTS)
        yield from runner.fit_plan()
        conditioning = yield from runner.run(prepare)
        yield progress.enter(Stage.GENERATING)
        latents = yield from runner.run(denoise)
        yield progress.enter(Stage.POST_PROCESSING)
        decode_seconds = yield from runner.run(lambda: _decode(model, latents, output, progress))
        yield progress.enter(Stage.SAVING)
        output.finish()
    finally:
        usage.stop()
        output.discard()
    progress.end_stage()
    shared.decode_times.record(params.model, decode_seconds, pixels)
    result = _make_result(
        params,
        output.folder,
        model.plan,
        usage.read(),
        progress.timings,
        resumed_from_step=checkpointer.resumed_from_step,
    )
    return replace(result, prompt_tokens_dropped=count_dropped_tokens(model, params.prompt))


def _request_shape(params: GenerationParams, loras: LoraRack) -> RequestShape:
    return shape_of(params, lora_bytes=loras.bytes_on_an_expert)


def _prepare(
    parts: Generator[None, None, Conditioning], progress: ProgressReporter
) -> Generator[Progress, None, Conditioning]:
    """Prepares the conditioning, with a point to cancel at after each part."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            conditioning: Conditioning = end.value
            return conditioning
        yield progress.last


def _denoise(
    run: Denoising,
    checkpointer: Checkpointer,
    previews: PreviewWriter,
    progress: ProgressReporter,
    decode_seconds: float,
) -> Generator[Progress, None, torch.Tensor]:
    """Denoises to the last step and returns the latents. `decode_seconds` is the expected time of decoding."""
    seconds: list[float] = []
    with closing(run.steps()) as steps, checkpointer.watching(run):
        progress.saved_steps = checkpointer.saved_steps
        if run.steps_done:
            yield progress.steps_done(run.steps_done, eta_seconds=None)
        for step in steps:
            seconds.append(step.seconds)
            checkpointer.after_step(run)
            progress.saved_steps = checkpointer.saved_steps
            previews.after_step(run)
            left = (step.total - run.steps_done) * sum(seconds) / len(seconds)
            yield progress.steps_done(run.steps_done, eta_seconds=left + decode_seconds)
    return run.latents_BCTHW


def _decode(
    model: LoadedModel, latents: torch.Tensor, output: VideoOutput, progress: ProgressReporter
) -> Generator[Progress, None, float]:
    """Decodes the latents, writes the video's files, and returns the seconds that this took."""
    started = time.perf_counter()
    vae, tile = model.bring("vae"), model.plan.vae_tile
    total = count_parts(vae, latents, tile)
    for done, _ in enumerate(output.write(decode_frames(vae, latents, tile)), 1):
        eta_seconds = (total - done) * (time.perf_counter() - started) / done
        yield progress.parts_decoded(done, total, eta_seconds)
    return time.perf_counter() - started


def _make_result(
    params: GenerationParams,
    folder: Path,
    plan: OptimizationPlan,
    usage: Usage,
    timings: dict[str, float],
    *,
    resumed_from_step: int,
) -> GenerationResult:
    is_quantized = plan.quantization is not Quantization.NONE
    return GenerationResult(
        video=folder / VIDEO,
        thumbnail=folder / THUMBNAIL,
        last_frame=folder / LAST_FRAME,
        file_size_bytes=(folder / VIDEO).stat().st_size,
        generation_time_seconds=usage.seconds,
        model_used=params.model,
        parameters_used=params.to_dict(),
        peak_vram_usage_mb=usage.peak_vram_mb,
        average_vram_usage_mb=usage.average_vram_mb,
        cpu_usage_percent=usage.cpu_percent,
        optimizations_applied=plan.describe(),
        quantization_used=plan.quantization.value if is_quantized else None,
        offload_used=plan.is_offloaded,
        timings=timings,
        resumed_from_step=resumed_from_step,
    )
