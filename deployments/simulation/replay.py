"""A trace in virtual time: jobs come in, slots are given to them, load what they need and run."""

import heapq
import math
from collections.abc import Mapping, Sequence

from deployments.scheduling import Need, Queue
from deployments.simulation.baselines import FirstComeFirstServed
from deployments.simulation.traces import ModelTimes, Run, TraceJob, begin_run
from deployments.slots import WORTH_WAITING


class _Ends:
    """The busy slots of one model type, by when they are free: how many of them are free within a time."""

    def __init__(self, within_seconds: float) -> None:
        self._within = within_seconds
        self._later: list[float] = []
        self._soon = 0

    def begin(self, end: float) -> None:
        heapq.heappush(self._later, end)

    def end(self, now: float) -> None:
        self.count(now)
        self._soon -= 1

    def count(self, now: float) -> int:
        while self._later and self._later[0] - now < self._within:
            heapq.heappop(self._later)
            self._soon += 1
        return self._soon


def replay(
    jobs: Sequence[TraceJob], gpus: int, times: Mapping[str, ModelTimes], chooser: Queue | FirstComeFirstServed
) -> list[Run]:
    """Replays a trace on as many slots as there are GPUs.

    Args:
        jobs: in the order of submission.
        gpus: how many.
        times: of the models.
        chooser: what decides which job goes next; an empty one.

    Returns:
        What became of each job, in the order in which they began.
    """
    free: dict[Need | None, list[int]] = {None: list(range(gpus))}
    held: list[Need | None] = [None] * gpus
    ends: list[tuple[float, int]] = []
    used = [times[model] for model in {job.model for job in jobs}]
    by_type = {of.type: _Ends(WORTH_WAITING * of.load_seconds) for of in used}
    runs: list[Run] = []
    coming = 0
    while coming < len(jobs) or ends:
        now = min(ends[0][0] if ends else math.inf, jobs[coming].at if coming < len(jobs) else math.inf)
        while coming < len(jobs) and jobs[coming].at <= now:
            chooser.add(jobs[coming].to_waiting(coming, times))
            coming += 1
        while ends and ends[0][0] <= now:
            _, slot = heapq.heappop(ends)
            need = held[slot]
            assert need is not None
            by_type[need.kind].end(now)
            free.setdefault(need, []).append(slot)
        if not free or not len(chooser):
            continue
        soon = {kind: of.count(now) for kind, of in by_type.items()}
        for job, slot in chooser.assign(free, now, soon=soon):
            run = begin_run(jobs[job.number], job, slot, held[slot], now, times)
            held[slot] = job.need
            heapq.heappush(ends, (run.ended_at, slot))
            by_type[job.need.kind].begin(run.ended_at)
            runs.append(run)
    return runs
