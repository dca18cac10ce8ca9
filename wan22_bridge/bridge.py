"""ModelIntegrationBridge: the one door between what serves and what generates."""

import logging
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.conditioning import Conditioning, TextCache, prepare_conditioning
from wan22_bridge.decoding import decode_frames
from wan22_bridge.denoising import denoise
from wan22_bridge.errors import OutOfMemory, StorageFailed
from wan22_bridge.files import fsync_directory, fsync_tree
from wan22_bridge.loading import LoadedModel, choose_device, load_model, use_all_cores
from wan22_bridge.media import VideoWriter, verify_video, write_png, write_thumbnail
from wan22_bridge.sizing import TEMPORAL_STRIDE
from wan22_bridge.types import GenerationParams, GenerationResult, Progress, Stage

logger = logging.getLogger(__name__)

VIDEO, THUMBNAIL, LAST_FRAME = "video.mp4", "thumbnail.webp", "last_frame.png"

_SPAN = {
    Stage.PREPARING_INPUTS: (1.0, 3.0),
    Stage.GENERATING: (3.0, 85.0),
    Stage.POST_PROCESSING: (85.0, 98.0),
    Stage.SAVING: (98.0, 100.0),
}
"""The part of the whole, in percent, that each stage is shown as."""


@dataclass(slots=True)
class _Run:
    """One generation's clock and its files."""

    params: GenerationParams
    folder: Path
    started: float = field(default_factory=time.perf_counter)
    timings: dict[str, float] = field(default_factory=dict)
    stage: Stage | None = None
    stage_started: float = 0.0

    def enter(self, stage: Stage) -> Progress:
        """Ends the stage before and begins this one."""
        self.leave()
        self.stage, self.stage_started = stage, time.perf_counter()
        steps = self.params.steps
        denoised = stage in (Stage.POST_PROCESSING, Stage.SAVING)
        return Progress(stage=stage, percent=_SPAN[stage][0], current_step=steps if denoised else 0, total_steps=steps)

    def leave(self) -> None:
        """Books the seconds of the stage that is running."""
        if self.stage is not None:
            self.timings[self.stage.value] = round(time.perf_counter() - self.stage_started, 4)

    def part(self, done: int, total: int, *, current_step: int, eta_seconds: float | None) -> Progress:
        """Progress within the stage: `done` of `total` parts."""
        assert self.stage is not None
        low, high = _SPAN[self.stage]
        return Progress(
            stage=self.stage,
            current_step=current_step,
            total_steps=self.params.steps,
            percent=round(low + (high - low) * done / total, 2),
            eta_seconds=None if eta_seconds is None else round(eta_seconds, 2),
        )


class ModelIntegrationBridge:
    """Loads models and generates videos with them, one at a time, on one device.

    Stop a generation by closing the generator that `generate` returned: it takes effect between two denoising
    steps or two decoded latent frames, leaves no file behind and leaves the model as it was.
    """

    def __init__(self, *, exact: bool = False) -> None:
        """`exact` gives up speed on the CPU for the very bits that diffusers' pipelines make."""
        self._exact = exact
        self._device = choose_device()
        self._texts: dict[str, TextCache] = {}
        self._decode_seconds_per_pixel: dict[str, float] = {}
        use_all_cores()

    def load(self, spec: ModelSpec, folder: Path) -> LoadedModel:
        """Loads a model from its folder onto this bridge's device.

        Raises:
            ModelCorrupted: the folder is not a whole model of the type.
            OutOfMemory: it does not fit.
        """
        started = time.perf_counter()
        model = load_model(spec, folder, self._device, exact=self._exact)
        logger.info("Loaded %s in %.1f s", spec.id, time.perf_counter() - started, extra={"action": "model_loaded"})
        return model

    def generate(
        self, model: LoadedModel, params: GenerationParams, folder: Path, *, inputs: Path = Path()
    ) -> Generator[Progress, None, GenerationResult]:
        """Generates one video into `folder`, which must not exist: it appears whole or not at all.

        Args:
            model: what `load` gave.
            params: what to make.
            folder: where to.
            inputs: the folder that the images' paths in `params` start from.

        Returns:
            Where the files lie, and what it took.

        Raises:
            OutOfMemory: the device is too small for the request.
            GenerationFailed: the model made something unusable.
            StorageFailed: the video could not be written.
        """
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        run = _Run(params=params, folder=part)
        cpu_before = sum(psutil.Process().cpu_times()[:2])
        try:
            yield run.enter(Stage.PREPARING_INPUTS)
            conditioning = prepare_conditioning(
                model, params, self._texts.setdefault(params.model, TextCache()), inputs
            )
            yield run.enter(Stage.GENERATING)
            latents = yield from self._denoise(model, run, conditioning)
            yield run.enter(Stage.POST_PROCESSING)
            with _writing_files():
                part.mkdir(parents=True)
                yield from self._decode(model, run, latents)
            yield run.enter(Stage.SAVING)
            verify_video(
                part / VIDEO,
                width=params.width,
                height=params.height,
                fps=params.fps,
                num_frames=params.num_frames,
                parameters=params.to_dict(),
            )
            with _writing_files():
                fsync_tree(part)
                part.rename(folder)
                fsync_directory(folder.parent)
        except torch.OutOfMemoryError as exc:
            raise OutOfMemory(
                f"The device ran out of memory at {params.width}x{params.height} and {params.num_frames} frames.",
                code="cuda_oom",
                suggestions=["Lower the resolution.", "Then lower the number of frames."],
            ) from exc
        finally:
            shutil.rmtree(part, ignore_errors=True)
        run.leave()
        seconds = time.perf_counter() - run.started
        return GenerationResult(
            video=folder / VIDEO,
            thumbnail=folder / THUMBNAIL,
            last_frame=folder / LAST_FRAME,
            file_size_bytes=(folder / VIDEO).stat().st_size,
            generation_time_seconds=round(seconds, 4),
            model_used=params.model,
            parameters_used=params.to_dict(),
            peak_vram_usage_mb=self._peak_vram_mb(),
            cpu_usage_percent=round(100 * (sum(psutil.Process().cpu_times()[:2]) - cpu_before) / seconds, 1),
            timings=run.timings,
        )

    def _denoise(
        self, model: LoadedModel, run: _Run, conditioning: Conditioning
    ) -> Generator[Progress, None, torch.Tensor]:
        decode_seconds = self._decode_seconds_per_pixel.get(run.params.model, 0.0) * _pixels(run.params)
        spent = 0.0
        steps = denoise(model, run.params, conditioning)
        try:
            while True:
                step = next(steps)
                done = step.index + 1
                spent += step.seconds
                eta_seconds = (step.total - done) * spent / done + decode_seconds
                yield run.part(done, step.total, current_step=done, eta_seconds=eta_seconds)
        except StopIteration as end:
            latents: torch.Tensor = end.value
            return latents
        finally:
            steps.close()

    def _decode(self, model: LoadedModel, run: _Run, latents: torch.Tensor) -> Generator[Progress, None, None]:
        params = run.params
        started = time.perf_counter()
        total = (params.num_frames - 1) // TEMPORAL_STRIDE + 1
        with VideoWriter(
            run.folder / VIDEO, width=params.width, height=params.height, fps=params.fps, parameters=params.to_dict()
        ) as video:
            for index, frames in enumerate(decode_frames(model.text.vae, latents)):
                video.add(frames)
                if index == 0:
                    write_thumbnail(run.folder / THUMBNAIL, frames[0])
                if index == total - 1:
                    write_png(run.folder / LAST_FRAME, frames[-1])
                done = index + 1
                eta_seconds = (total - done) * (time.perf_counter() - started) / done
                yield run.part(done, total, current_step=params.steps, eta_seconds=eta_seconds)
        self._decode_seconds_per_pixel[params.model] = (time.perf_counter() - started) / _pixels(params)

    def _peak_vram_mb(self) -> float:
        if self._device.type != "cuda":
            return 0.0
        return round(torch.cuda.max_memory_allocated(self._device) / 2**20, 1)


@contextmanager
def _writing_files() -> Iterator[None]:
    """Tells of a full or broken disk by what it is."""
    try:
        yield
    except OSError as exc:
        raise StorageFailed(f"The video's files could not be written: {exc.strerror or 'unknown reason'}.") from exc


def _pixels(params: GenerationParams) -> int:
    """Of the whole video."""
    return params.width * params.height * params.num_frames
