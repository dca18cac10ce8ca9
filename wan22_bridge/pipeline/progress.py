"""Progress of one generation through its stages, and the time that each stage took."""

import time

from wan22_bridge.types import Progress, Stage

_PERCENT_RANGES = {
    Stage.PREPARING_INPUTS: (1.0, 3.0),
    Stage.GENERATING: (3.0, 85.0),
    Stage.POST_PROCESSING: (85.0, 98.0),
    Stage.SAVING: (98.0, 100.0),
}
"""Percent of the whole generation at the start and the end of each stage."""


class ProgressReporter:
    """Creates the progress reports of one generation and measures the duration of its stages."""

    def __init__(self, total_steps: int) -> None:
        """Starts before the first stage. `total_steps` counts the denoising steps."""
        self._total_steps = total_steps
        self._stage: Stage | None = None
        self._stage_started = 0.0
        self.timings: dict[str, float] = {}
        """Seconds of each completed stage."""
        self.saved_steps = 0
        """Steps in the last snapshot on the disk, which every report states."""
        self.last: Progress
        """The last report. Yielding this report again gives the caller a point to cancel at."""

    def enter(self, stage: Stage) -> Progress:
        """Ends the current stage, starts the next stage, and reports its start."""
        self.end_stage()
        self._stage, self._stage_started = stage, time.perf_counter()
        is_denoised = stage in (Stage.POST_PROCESSING, Stage.SAVING)
        self.last = Progress(
            stage=stage,
            percent=_PERCENT_RANGES[stage][0],
            current_step=self._total_steps if is_denoised else 0,
            total_steps=self._total_steps,
            saved_steps=self.saved_steps,
        )
        return self.last

    def end_stage(self) -> None:
        """Records the duration of the current stage."""
        if self._stage is not None:
            self.timings[self._stage.value] = round(time.perf_counter() - self._stage_started, 4)

    def steps_done(self, done: int, eta_seconds: float | None) -> Progress:
        """Reports that `done` denoising steps are complete."""
        return self._advance(done, self._total_steps, current_step=done, eta_seconds=eta_seconds)

    def parts_decoded(self, done: int, total: int, eta_seconds: float) -> Progress:
        """Reports that `done` of `total` parts of the video are decoded."""
        return self._advance(done, total, current_step=self._total_steps, eta_seconds=eta_seconds)

    def _advance(self, done: int, total: int, *, current_step: int, eta_seconds: float | None) -> Progress:
        low, high = _PERCENT_RANGES[self.last.stage]
        self.last = Progress(
            stage=self.last.stage,
            current_step=current_step,
            total_steps=self._total_steps,
            percent=round(low + (high - low) * done / total, 2),
            eta_seconds=None if eta_seconds is None else round(eta_seconds, 2),
            saved_steps=self.saved_steps,
        )
        return self.last


class DecodeTimes:
    """Decoding time of each model in seconds per pixel, for the estimated time to completion of later generations."""

    def __init__(self) -> None:
        """Knows no model yet."""
        self._seconds_per_pixel: dict[str, float] = {}

    def record(self, model_id: str, seconds: float, pixels: int) -> None:
        """Replaces a model's decoding time."""
        self._seconds_per_pixel[model_id] = seconds / pixels

    def estimate(self, model_id: str, pixels: int) -> float:
        """Returns the expected seconds for so many pixels; 0 for a model that has not decoded a video yet."""
        return self._seconds_per_pixel.get(model_id, 0.0) * pixels
