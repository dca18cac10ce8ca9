"""Runs the stages of a generation, and runs a stage again after an out-of-memory error or a lost rank."""

import gc
import logging
from collections.abc import Callable, Generator
from typing import TypeVar

from wan22_bridge.device_errors import is_out_of_memory
from wan22_bridge.errors import OutOfMemory, RankLost
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.pipeline.progress import ProgressReporter
from wan22_bridge.planning.planner import Planner
from wan22_bridge.plans import HardwareProfile, OptimizationPlan, RequestShape
from wan22_bridge.types import Progress, Stage

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_MAX_RANKS_LOST = 2
"""Lost ranks in one generation after which the next loss fails the generation."""
_ESTIMATED = {
    Stage.PREPARING_INPUTS: ("encode_text", "encode_image"),
    Stage.GENERATING: ("denoise",),
    Stage.POST_PROCESSING: ("decode",),
}
"""Names of each stage in the planner's estimate of memory."""


class StageRunner:
    """Runs the stages of one generation under a plan that fits, and takes the next rung when memory runs out."""

    def __init__(
        self,
        model: LoadedModel,
        planner: Planner,
        hardware: Callable[[], HardwareProfile],
        shape: RequestShape,
        progress: ProgressReporter,
    ) -> None:
        """Creates a runner.

        Args:
            model: The model.
            planner: The model's planner.
            hardware: Returns the machine as it would be now without the model.
            shape: The request's shape.
            progress: The generation's reporter.
        """
        self._model = model
        self._planner = planner
        self._hardware = hardware
        self._shape = shape
        self._progress = progress
        self._ranks_lost = 0

    def fit_plan(self) -> Generator[Progress, None, None]:
        """Changes the model's plan if the request does not fit, or if a better plan fits and is worth the change.

        Also loads the model again if its last loading was interrupted.

        Raises:
            OutOfMemory: no plan fits.
        """
        self._planner.refresh(self._hardware())
        plan = self._planner.keep_or_choose(self._model.plan, self._shape)
        if plan != self._model.plan or not self._model.is_loaded:
            yield from self._replan(plan)

    def run(self, stage: Callable[[], Generator[Progress, None, Result]]) -> Generator[Progress, None, Result]:
        """Runs a stage to its end and returns the stage's result.

        After an out-of-memory error, the model changes to the next rung of the memory ladder and the stage runs
        again. After a lost rank, the stage runs again with new ranks.

        Raises:
            OutOfMemory: the ladder has no further rung.
            RankLost: too many ranks were lost.
        """
        while True:
            try:
                return (yield from stage())
            except RankLost as exc:
                self._ranks_lost += 1
                if self._ranks_lost > _MAX_RANKS_LOST:
                    raise
                logger.warning("%s Resuming with new ranks.", exc.message, extra={"action": "rank_lost"})
                continue
            except (RuntimeError, MemoryError) as exc:
                if not is_out_of_memory(exc):
                    raise
            # Outside of the except block, because the exception's traceback keeps the stage's tensors in memory.
            yield from self._take_next_rung()

    def _take_next_rung(self) -> Generator[Progress, None, None]:
        gc.collect()
        shape, plan = self._shape, self._model.plan
        rung = self._planner.next_rung(plan, shape, _ESTIMATED[self._progress.last.stage], self._hardware())
        if rung is None:
            raise OutOfMemory(
                f"The device ran out of memory at {shape.width}x{shape.height} and {shape.num_frames} frames, "
                f"with {', '.join(plan.describe()) or 'no memory savings'}.",
                code="cuda_oom",
                suggestions=["Lower the resolution.", "Then lower the number of frames."],
            )
        logger.warning("Out of memory; resuming with %s", ", ".join(rung.describe()), extra={"action": "out_of_memory"})
        yield from self._replan(rung)

    def _replan(self, plan: OptimizationPlan) -> Generator[Progress, None, None]:
        """Loads the model again under another plan, with a point to cancel at after each component."""
        for _ in self._model.replan(plan):
            yield self._progress.last
