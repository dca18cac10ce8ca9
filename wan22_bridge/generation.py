"""One generation, from its inputs to a video on the disk."""

import logging
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import torch

from wan22_bridge.conditioning import Conditioning, TextCache, prepare_conditioning
from wan22_bridge.decoding import decode_frames
from wan22_bridge.denoising import Denoising
from wan22_bridge.errors import GenerationFailed, OutOfMemory, SnapshotRefused, StorageFailed
from wan22_bridge.files import fsync_directory, fsync_tree
from wan22_bridge.loading import LoadedModel
from wan22_bridge.media import VideoWriter, verify_video, write_png, write_thumbnail
from wan22_bridge.sizing import TEMPORAL_STRIDE
from wan22_bridge.snapshots import Snapshot, fingerprint, read_snapshot, write_snapshot
from wan22_bridge.types import Checkpoint, Frames, GenerationParams, GenerationResult, Progress, Stage

logger = logging.getLogger(__name__)

VIDEO, THUMBNAIL, LAST_FRAME = "video.mp4", "thumbnail.webp", "last_frame.png"

_SPAN = {
    Stage.PREPARING_INPUTS: (1.0, 3.0),
    Stage.GENERATING: (3.0, 85.0),
    Stage.POST_PROCESSING: (85.0, 98.0),
    Stage.SAVING: (98.0, 100.0),
}
"""The part of the whole, in percent, that each stage is shown as."""


class Generation:
    """One run of `ModelIntegrationBridge.generate`: its stages, clock and files."""

    def __init__(
        self,
        model: LoadedModel,
        params: GenerationParams,
        folder: Path,
        *,
        inputs: Path,
        texts: TextCache,
        checkpoint: Checkpoint | None,
        decode_seconds_per_pixel: float,
    ) -> None:
        """Takes what `generate` takes; `decode_seconds_per_pixel` is what decoding took the last time."""
        self._model = model
        self._params = params
        self._folder = folder
        self._part = folder.with_name(f".{folder.name}.part")
        self._inputs = inputs
        self._texts = texts
        self._checkpoint = checkpoint
        self.decode_seconds_per_pixel = decode_seconds_per_pixel
        self._timings: dict[str, float] = {}
        self._stage: Stage | None = None
        self._stage_started = 0.0
        self._resumed_from_step = 0

    def run(self) -> Generator[Progress, None, GenerationResult]:
        """Runs to the end; closing the generator stops it."""
        started = time.perf_counter()
        cpu_before = sum(psutil.Process().cpu_times()[:2])
        if self._model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._model.device)
        shutil.rmtree(self._part, ignore_errors=True)
        try:
            yield self._enter(Stage.PREPARING_INPUTS)
            conditioning = prepare_conditioning(self._model, self._params, self._texts, self._inputs)
            yield self._enter(Stage.GENERATING)
            latents = yield from self._denoise(conditioning)
            yield self._enter(Stage.POST_PROCESSING)
            with _writing_files():
                self._part.mkdir(parents=True)
                yield from self._decode(latents)
            yield self._enter(Stage.SAVING)
            self._save()
        except torch.OutOfMemoryError as exc:
            raise OutOfMemory(
                f"The device ran out of memory at {self._params.width}x{self._params.height} and "
                f"{self._params.num_frames} frames.",
                code="cuda_oom",
                suggestions=["Lower the resolution.", "Then lower the number of frames."],
            ) from exc
        finally:
            shutil.rmtree(self._part, ignore_errors=True)
        self._leave()
        seconds = time.perf_counter() - started
        cpu_seconds = sum(psutil.Process().cpu_times()[:2]) - cpu_before
        return GenerationResult(
            video=self._folder / VIDEO,
            thumbnail=self._folder / THUMBNAIL,
            last_frame=self._folder / LAST_FRAME,
            file_size_bytes=(self._folder / VIDEO).stat().st_size,
            generation_time_seconds=round(seconds, 4),
            model_used=self._params.model,
            parameters_used=self._params.to_dict(),
            peak_vram_usage_mb=self._peak_vram_mb(),
            cpu_usage_percent=round(100 * cpu_seconds / seconds, 1),
            timings=self._timings,
            resumed_from_step=self._resumed_from_step,
        )

    def _denoise(self, conditioning: Conditioning) -> Generator[Progress, None, torch.Tensor]:
        belongs_to = fingerprint(self._model.weights, self._params)
        run = Denoising(self._model, self._params, conditioning, self._find_snapshot(belongs_to))
        self._resumed_from_step = kept = run.steps_done
        kept_at = time.monotonic()
        steps, seconds = run.steps(), []
        if kept:
            yield self._part_done(kept, self._params.steps, current_step=kept, eta_seconds=None)
        try:
            for step in steps:
                seconds.append(step.seconds)
                if self._checkpoint and time.monotonic() - kept_at >= self._checkpoint.interval_seconds:
                    self._keep(run.snapshot(), belongs_to)
                    kept, kept_at = run.steps_done, time.monotonic()
                left = (step.total - run.steps_done) * sum(seconds) / len(seconds)
                eta_seconds = left + self.decode_seconds_per_pixel * self._pixels
                yield self._part_done(run.steps_done, step.total, current_step=run.steps_done, eta_seconds=eta_seconds)
        except GeneratorExit:
            if self._checkpoint and run.steps_done > kept:
                self._keep(run.snapshot(), belongs_to)
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
        try:
            write_snapshot(self._checkpoint.path, snapshot, belongs_to)
        except OSError as exc:
            logger.warning("No snapshot could be kept: %s", exc, extra={"action": "snapshot_failed"})

    def _decode(self, latents: torch.Tensor) -> Generator[Progress, None, None]:
        params = self._params
        started = time.perf_counter()
        total = (params.num_frames - 1) // TEMPORAL_STRIDE + 1
        constant = True
        with VideoWriter(
            self._part / VIDEO, width=params.width, height=params.height, fps=params.fps, parameters=params.to_dict()
        ) as video:
            for index, frames in enumerate(decode_frames(self._model.text.vae, latents)):
                constant = constant and _is_constant(frames)
                video.add(frames)
                if index == 0:
                    write_thumbnail(self._part / THUMBNAIL, frames[0])
                if index == total - 1:
                    write_png(self._part / LAST_FRAME, frames[-1])
                done = index + 1
                eta_seconds = (total - done) * (time.perf_counter() - started) / done
                yield self._part_done(done, total, current_step=params.steps, eta_seconds=eta_seconds)
        if constant:
            raise GenerationFailed(
                f"Every frame that {params.model} made is of a single colour.",
                code="constant_frames",
                suggestions=["Use no quantisation, or another dtype.", "Use another seed or more steps."],
            )
        self.decode_seconds_per_pixel = (time.perf_counter() - started) / self._pixels

    def _save(self) -> None:
        """Reads the video back, then shows all files at once under their final names."""
        params = self._params
        verify_video(
            self._part / VIDEO,
            width=params.width,
            height=params.height,
            fps=params.fps,
            num_frames=params.num_frames,
            parameters=params.to_dict(),
        )
        with _writing_files():
            fsync_tree(self._part)
            self._part.rename(self._folder)
            fsync_directory(self._folder.parent)

    def _enter(self, stage: Stage) -> Progress:
        """Ends the stage before and begins this one."""
        self._leave()
        self._stage, self._stage_started = stage, time.perf_counter()
        steps = self._params.steps
        denoised = stage in (Stage.POST_PROCESSING, Stage.SAVING)
        return Progress(stage=stage, percent=_SPAN[stage][0], current_step=steps if denoised else 0, total_steps=steps)

    def _leave(self) -> None:
        """Books the seconds of the stage that is running."""
        if self._stage is not None:
            self._timings[self._stage.value] = round(time.perf_counter() - self._stage_started, 4)

    def _part_done(self, done: int, total: int, *, current_step: int, eta_seconds: float | None) -> Progress:
        """Progress within the stage: `done` of `total` parts."""
        assert self._stage is not None
        low, high = _SPAN[self._stage]
        return Progress(
            stage=self._stage,
            current_step=current_step,
            total_steps=self._params.steps,
            percent=round(low + (high - low) * done / total, 2),
            eta_seconds=None if eta_seconds is None else round(eta_seconds, 2),
        )

    @property
    def _pixels(self) -> int:
        """Of the whole video."""
        return self._params.width * self._params.height * self._params.num_frames

    def _peak_vram_mb(self) -> float:
        if self._model.device.type != "cuda":
            return 0.0
        return round(torch.cuda.max_memory_allocated(self._model.device) / 2**20, 1)


def _is_constant(frames: Frames) -> bool:
    """Whether each frame [n, height, width, 3] shows one colour alone."""
    return bool(np.all(frames == frames[:, :1, :1]))


@contextmanager
def _writing_files() -> Iterator[None]:
    """Tells of a full or broken disk by what it is."""
    try:
        yield
    except OSError as exc:
        raise StorageFailed(f"The video's files could not be written: {exc.strerror or 'unknown reason'}.") from exc
