"""One generation, from its inputs to a video on the disk."""

import gc
import logging
import math
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from wan22_bridge.errors import OutOfMemory, RankLost, SnapshotRefused
from wan22_bridge.media.output import LAST_FRAME, THUMBNAIL, VIDEO, VideoOutput
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.loras import LoraRack
from wan22_bridge.out_of_memory import is_out_of_memory
from wan22_bridge.pipeline.conditioning import Conditioning, prepare_in_parts
from wan22_bridge.pipeline.decoding import count_parts, decode_frames
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.previews import render_preview
from wan22_bridge.pipeline.snapshots import Snapshot, fingerprint, read_snapshot, write_snapshot
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.planner import Planner
from wan22_bridge.plans import OptimizationPlan, Quantization, RequestShape, Residence
from wan22_bridge.types import Checkpoint, GenerationParams, GenerationResult, Preview, Progress, Stage

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_SPAN = {
    Stage.PREPARING_INPUTS: (1.0, 3.0),
    Stage.GENERATING: (3.0, 85.0),
    Stage.POST_PROCESSING: (85.0, 98.0),
    Stage.SAVING: (98.0, 100.0),
}
"""The part of the whole, in percent, that each stage is shown as."""

_MOST_RANKS_LOST = 2
"""In one generation."""
_ESTIMATED = {
    Stage.PREPARING_INPUTS: ("encode_text", "encode_image"),
    Stage.GENERATING: ("denoise",),
    Stage.POST_PROCESSING: ("decode",),
}
"""What the estimate of memory calls the stages."""


class Generation:
    """One run of `ModelIntegrationBridge.generate`: its stages, its clock and what it does when memory runs out."""

    def __init__(
        self,
        model: LoadedModel,
        params: GenerationParams,
        folder: Path,
        *,
        inputs: Path,
        loras: Path,
        texts: TextCache,
        planner: Planner,
        checkpoint: Checkpoint | None,
        preview: Preview | None,
        decode_seconds_per_pixel: float,
    ) -> None:
        """Takes what `generate` takes; `decode_seconds_per_pixel` is what decoding took the last time."""
        self._model = model
        self._params = params
        self._output = VideoOutput(folder, params)
        self._inputs = inputs
        self._loras = LoraRack(loras, params.loras)
        self._texts = texts
        self._planner = planner
        self._checkpoint = checkpoint
        self._preview = preview
        self.decode_seconds_per_pixel = decode_seconds_per_pixel
        self._shape = RequestShape(
            width=params.width,
            height=params.height,
            num_frames=params.num_frames,
            image=bool(params.image or params.video),
            guided=params.guidance_scale > 1,
            step_cache=params.step_cache,
            lora_bytes=self._loras.bytes_on_an_expert,
        )
        self._timings: dict[str, float] = {}
        self._stage: Stage | None = None
        self._stage_started = 0.0
        self._told: Progress
        """What was told last; told again, it is a moment to stop at."""
        self._resumed_from_step = 0
        self._broken_off: Snapshot | None = None
        """Where the denoising was when memory ran out, or a process was lost."""
        self._ranks_lost = 0

    def run(self) -> Generator[Progress, None, GenerationResult]:
        """Runs to the end; closing the generator stops it."""
        started = time.perf_counter()
        cpu_before = sum(psutil.Process().cpu_times()[:2])
        if self._model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._model.device)
        try:
            yield self._enter(Stage.PREPARING_INPUTS)
            yield from self._fit_plan()
            conditioning = yield from self._within_memory(self._prepare)
            yield self._enter(Stage.GENERATING)
            latents = yield from self._within_memory(lambda: self._denoise(conditioning))
            yield self._enter(Stage.POST_PROCESSING)
            yield from self._within_memory(lambda: self._decode(latents))
            yield self._enter(Stage.SAVING)
            self._output.finish()
        finally:
            self._output.discard()
        self._leave()
        seconds = time.perf_counter() - started
        cpu_seconds = sum(psutil.Process().cpu_times()[:2]) - cpu_before
        return self._result(seconds, cpu_seconds)

    def _result(self, seconds: float, cpu_seconds: float) -> GenerationResult:
        folder, plan = self._output.folder, self._model.plan
        quantised = plan.quantization is not Quantization.NONE
        return GenerationResult(
            video=folder / VIDEO,
            thumbnail=folder / THUMBNAIL,
            last_frame=folder / LAST_FRAME,
            file_size_bytes=(folder / VIDEO).stat().st_size,
            generation_time_seconds=round(seconds, 4),
            model_used=self._params.model,
            parameters_used=self._params.to_dict(),
            peak_vram_usage_mb=self._peak_vram_mb(),
            cpu_usage_percent=round(100 * cpu_seconds / seconds, 1),
            optimizations_applied=plan.describe(),
            quantization_used=plan.quantization.value if quantised else None,
            offload_used={plan.experts, plan.text_encoder, plan.vae} != {Residence.RESIDENT},
            timings=self._timings,
            resumed_from_step=self._resumed_from_step,
        )

    def _fit_plan(self) -> Generator[Progress, None, None]:
        """Loads the model anew if the request does not fit beside it as it is, or if that was not done to its end."""
        plan = self._planner.keep_or_choose(self._model.plan, self._shape)
        if plan != self._model.plan or not self._model.is_loaded:
            yield from self._replan(plan)

    def _replan(self, plan: OptimizationPlan) -> Generator[Progress, None, None]:
        """Loads the model anew; it can be stopped between its components."""
        for _ in self._model.replan(plan):
            yield self._told

    def _within_memory(
        self, stage: Callable[[], Generator[Progress, None, Result]]
    ) -> Generator[Progress, None, Result]:
        """Runs a stage; where it runs out of memory, runs it again on the next rung of the ladder.

        Where a process that helps was lost, it is run again as it was: the processes are started anew.

        Raises:
            OutOfMemory: there is no rung left.
            RankLost: it has happened too often.
        """
        while True:
            try:
                return (yield from stage())
            except RankLost as exc:
                self._ranks_lost += 1
                if self._ranks_lost > _MOST_RANKS_LOST:
                    raise
                logger.warning("%s Going on with new ones", exc.message, extra={"action": "rank_lost"})
                continue
            except (RuntimeError, MemoryError) as exc:
                if not is_out_of_memory(exc):
                    raise
            yield from self._take_next_rung()

    def _take_next_rung(self) -> Generator[Progress, None, None]:
        assert self._stage is not None
        rung = self._planner.next_rung(self._model.plan, self._shape, _ESTIMATED[self._stage])
        if rung is None:
            raise OutOfMemory(
                f"The device ran out of memory at {self._params.width}x{self._params.height} and "
                f"{self._params.num_frames} frames, with {', '.join(self._model.plan.describe()) or 'no savings'}.",
                code="cuda_oom",
                suggestions=["Lower the resolution.", "Then lower the number of frames."],
            )
        logger.warning("Out of memory; going on with %s", ", ".join(rung.describe()), extra={"action": "out_of_memory"})
        gc.collect()
        yield from self._replan(rung)

    def _prepare(self) -> Generator[Progress, None, Conditioning]:
        parts = prepare_in_parts(self._model, self._params, self._texts, self._inputs)
        while True:
            try:
                next(parts)
            except StopIteration as end:
                conditioning: Conditioning = end.value
                return conditioning
            yield self._told

    def _denoise(self, conditioning: Conditioning) -> Generator[Progress, None, torch.Tensor]:
        belongs_to = fingerprint(f"{self._model.weights} {self._loras.identity}".rstrip(), self._params)
        snapshot = self._broken_off or self._find_snapshot(belongs_to)
        run = Denoising(self._model, self._params, conditioning, snapshot, self._loras)
        kept = run.steps_done
        if self._broken_off is None:
            self._resumed_from_step = kept
        kept_at = time.monotonic()
        shown_at = -math.inf
        steps, seconds = run.steps(), []
        if kept:
            yield self._part_done(kept, self._params.steps_to_run, current_step=kept, eta_seconds=None)
        try:
            for step in steps:
                seconds.append(step.seconds)
                if self._checkpoint and time.monotonic() - kept_at >= self._checkpoint.interval_seconds:
                    self._keep(run.snapshot(), belongs_to)
                    kept, kept_at = run.steps_done, time.monotonic()
                if self._preview and time.monotonic() - shown_at >= self._preview.interval_seconds:
                    self._show(run.estimate())
                    shown_at = time.monotonic()
                left = (step.total - run.steps_done) * sum(seconds) / len(seconds)
                eta_seconds = left + self.decode_seconds_per_pixel * self._pixels
                yield self._part_done(run.steps_done, step.total, current_step=run.steps_done, eta_seconds=eta_seconds)
        except GeneratorExit:
            if self._checkpoint and run.steps_done > kept:
                self._keep(run.snapshot(), belongs_to)
            raise
        except (RuntimeError, RankLost):
            self._broken_off = run.snapshot() if run.between_steps and run.steps_done else None
            raise
        finally:
            steps.close()
        return run.latents_BCTHW

    def _find_snapshot(self, belongs_to: str) -> Snapshot | None:
        """The checkpoint's snapshot; None where there is none of use, and the generation starts over."""
        if self._checkpoint is None:
            return None
        try:
            return read_snapshot(self._checkpoint.path, belongs_to)
        except FileNotFoundError:
            return None
        except SnapshotRefused as exc:
            logger.warning("%s The generation starts over.", exc.message, extra={"action": "snapshot_refused"})
            return None

    def _keep(self, snapshot: Snapshot, belongs_to: str) -> None:
        """Writes a snapshot. Where that fails the generation goes on: it can do without."""
        assert self._checkpoint is not None
        started = time.perf_counter()
        try:
            write_snapshot(self._checkpoint.path, snapshot, belongs_to)
        except OSError as exc:
            logger.warning("No snapshot could be kept: %s", exc, extra={"action": "snapshot_failed"})
        else:
            self._checkpoint.kept(time.perf_counter() - started)

    def _show(self, estimate: torch.Tensor) -> None:
        """Writes a preview. Where that fails the generation goes on."""
        assert self._preview is not None
        if self._model.preview_factors is None:
            return
        temporary = self._preview.path.with_suffix(".part")
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(render_preview(estimate, self._model.preview_factors, fps=self._params.fps))
            temporary.replace(self._preview.path)
        except OSError as exc:
            logger.warning("No preview could be written: %s", exc, extra={"action": "preview_failed"})
        else:
            self._preview.shown()

    def _decode(self, latents: torch.Tensor) -> Generator[Progress, None, None]:
        started = time.perf_counter()
        vae, tile = self._model.bring("vae"), self._model.plan.vae_tile
        total = count_parts(vae, latents, tile)
        for index, _ in enumerate(self._output.write(decode_frames(vae, latents, tile))):
            done = index + 1
            eta_seconds = (total - done) * (time.perf_counter() - started) / done
            yield self._part_done(done, total, current_step=self._params.steps_to_run, eta_seconds=eta_seconds)
        self.decode_seconds_per_pixel = (time.perf_counter() - started) / self._pixels

    def _enter(self, stage: Stage) -> Progress:
        """Ends the stage before and begins this one."""
        self._leave()
        self._stage, self._stage_started = stage, time.perf_counter()
        steps = self._params.steps_to_run
        denoised = stage in (Stage.POST_PROCESSING, Stage.SAVING)
        self._told = Progress(
            stage=stage, percent=_SPAN[stage][0], current_step=steps if denoised else 0, total_steps=steps
        )
        return self._told

    def _leave(self) -> None:
        """Books the seconds of the stage that is running."""
        if self._stage is not None:
            self._timings[self._stage.value] = round(time.perf_counter() - self._stage_started, 4)

    def _part_done(self, done: int, total: int, *, current_step: int, eta_seconds: float | None) -> Progress:
        """Progress within the stage: `done` of `total` parts."""
        assert self._stage is not None
        low, high = _SPAN[self._stage]
        self._told = Progress(
            stage=self._stage,
            current_step=current_step,
            total_steps=self._params.steps_to_run,
            percent=round(low + (high - low) * done / total, 2),
            eta_seconds=None if eta_seconds is None else round(eta_seconds, 2),
        )
        return self._told

    @property
    def _pixels(self) -> int:
        """Of the whole video."""
        return self._params.width * self._params.height * self._params.num_frames

    def _peak_vram_mb(self) -> float:
        if self._model.device.type != "cuda":
            return 0.0
        return round(torch.cuda.max_memory_allocated(self._model.device) / 2**20, 1)
