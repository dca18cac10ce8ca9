"""The replay of a trace in virtual time: jobs arrive, get GPUs, load what they need, and run."""

import heapq
import math
from collections.abc import Mapping, Sequence

from deployments.scheduling.queue import Assignment, Queue
from deployments.scheduling.slots import WORTH_WAITING
from deployments.simulation.baselines import FirstComeFirstServed
from deployments.simulation.fleet import BusyGpus, Gpus, Replicas, place
from deployments.simulation.traces import ModelTimes, Run, TraceJob, begin_run


def replay(
    jobs: Sequence[TraceJob], gpus: int, times: Mapping[str, ModelTimes], chooser: Queue | FirstComeFirstServed
) -> list[Run]:
    """Replays a trace.

    With the scheduler, the autoscaling policy decides which model type gives up a GPU for another type. With first come
    first served, a job may take any free GPU.

    Args:
        jobs: the trace, in the order of submission.
        gpus: number of GPUs. Each one is a slot.
        times: the times of each model.
        chooser: an empty queue that decides which job runs next.

    Returns:
        The runs of all jobs, in the order in which they began.
    """
    return _Replay(jobs, gpus, times, chooser).run()


class _Replay:
    def __init__(
        self,
        jobs: Sequence[TraceJob],
        gpus: int,
        times: Mapping[str, ModelTimes],
        chooser: Queue | FirstComeFirstServed,
    ) -> None:
        self._jobs, self._times, self._chooser = jobs, times, chooser
        self._gpus = Gpus(gpus)
        used = [times[model] for model in {job.model for job in jobs}]
        self._busy = {model.type: BusyGpus(WORTH_WAITING * model.load_seconds) for model in used}
        self._replicas = Replicas(gpus, self._busy) if isinstance(chooser, Queue) else None
        self._arrived = 0
        """Number of jobs that have arrived."""
        self._ends: list[tuple[float, int]] = []
        """A heap of the running jobs' ends with their GPUs."""
        self._runs: list[Run] = []

    def run(self) -> list[Run]:
        while self._arrived < len(self._jobs) or self._ends:
            now = min(self._next_arrival(), self._next_end())
            self._add_arrivals(now)
            self._end_jobs(now)
            if self._replicas is not None:
                self._gpus.empty(self._replicas.stop_idle(now))
            if self._gpus.free and len(self._chooser):
                for assignment in self._assign(now):
                    self._begin(assignment, now)
        return self._runs

    def _next_arrival(self) -> float:
        return self._jobs[self._arrived].at if self._arrived < len(self._jobs) else math.inf

    def _next_end(self) -> float:
        return self._ends[0][0] if self._ends else math.inf

    def _add_arrivals(self, now: float) -> None:
        while self._next_arrival() <= now:
            self._chooser.add(self._jobs[self._arrived].to_waiting(self._arrived, self._times))
            self._arrived += 1

    def _end_jobs(self, now: float) -> None:
        while self._next_end() <= now:
            _, gpu = heapq.heappop(self._ends)
            [need] = self._gpus.held[gpu]
            self._busy[need.kind].end(now)
            if self._replicas is not None:
                self._replicas.end(need.kind, now)
            self._gpus.put_back(gpu)

    def _assign(self, now: float) -> list[Assignment]:
        """Chooses the jobs that begin now, and marks their GPUs as busy."""
        soon = {kind: busy.count_soon(now) for kind, busy in self._busy.items()}
        assigned = self._chooser.assign(self._gpus.free, now, soon=soon)
        for _, gpu in assigned:
            self._gpus.take(gpu)
        if self._replicas is None:
            return assigned
        givers = self._replicas.begin([job.need.kind for job, _ in assigned], now)
        return place(assigned, givers, self._gpus)

    def _begin(self, assignment: Assignment, now: float) -> None:
        job, gpu = assignment
        run = begin_run(self._jobs[job.number], job, gpu, self._gpus.held[gpu], now, self._times)
        self._gpus.load(gpu, job.need)
        self._busy[job.need.kind].begin(run.ended_at)
        heapq.heappush(self._ends, (run.ended_at, gpu))
        self._runs.append(run)
