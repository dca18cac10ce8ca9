"""The scheduler's baselines: first come first served, and Serve's default scaling without coordination."""

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

from deployments.scheduling.policy import Holding, Waiting
from deployments.scheduling.queue import Assignment
from deployments.simulation.traces import ModelTimes, Run, TraceJob, begin_run

_JOBS_PER_REPLICA, _UPSCALE_SECONDS, _DOWNSCALE_SECONDS = 2, 30.0, 600.0


class FirstComeFirstServed:
    """A baseline in which the oldest job takes the slot that has been free the longest."""

    def __init__(self) -> None:
        self._jobs: deque[Waiting] = deque()
        self._last_used: dict[int, int] = {}
        """The serial number of each slot's last assignment."""
        self._count = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Waiting) -> None:
        """Adds a job."""
        self._jobs.append(job)

    def assign(self, free: Mapping[Holding, Sequence[int]], now: float, *, soon: Mapping[str, int]) -> list[Assignment]:
        """Assigns jobs to free slots, with the interface of `Queue.assign` but regardless of what the slots hold.

        Args:
            free: the free slots by what they hold, each list with the longest free slot first. It is not changed.
            now: not used.
            soon: not used.
        """
        left = {held: list(slots) for held, slots in free.items()}
        assigned = []
        while left and self._jobs:
            held = min(left, key=lambda held: self._last_used.get(left[held][0], 0))
            slot = left[held].pop(0)
            if not left[held]:
                del left[held]
            self._count += 1
            self._last_used[slot] = self._count
            assigned.append(Assignment(self._jobs.popleft(), slot))
        return assigned


def replay_uncoordinated(jobs: Sequence[TraceJob], gpus: int, times: Mapping[str, ModelTimes]) -> list[Run]:
    """Replays a trace with the baseline in which each model type is a deployment with Serve's default scaling.

    A deployment wants one replica for every two of its jobs. It scales up after it has wanted more replicas for 30 s,
    and scales down after it has wanted fewer for 600 s. A replica starts when a GPU is free. No deployment gives up a
    GPU for another one. The numbers are the defaults of `AutoscalingConfig` in Ray 2.60.
    """
    return _Uncoordinated(jobs, gpus, times).run()


class _Deployment:
    """The replicas of one model type."""

    def __init__(self) -> None:
        self.waiting: deque[int] = deque()
        self.idle: list[int] = []
        self.replicas = 0
        self.running = 0
        self.more_since: float | None = None
        """Time since which the deployment has wanted more replicas; None while it does not."""
        self.fewer_since: float | None = None

    def wanted(self, gpus: int) -> int:
        """Returns the number of wanted replicas."""
        return min(gpus, -(-(len(self.waiting) + self.running) // _JOBS_PER_REPLICA))


class _Uncoordinated:
    def __init__(self, jobs: Sequence[TraceJob], gpus: int, times: Mapping[str, ModelTimes]) -> None:
        self._jobs, self._gpus, self._times = jobs, gpus, times
        self._deployments: defaultdict[str, _Deployment] = defaultdict(_Deployment)
        self._free = list(range(gpus))
        self._held: dict[int, Holding] = {}
        self._events: list[tuple[float, int, str]] = []
        """A heap of times, slots and model types. A job ends on the slot; slot -1 only reconsiders the scaling."""
        self._runs: list[Run] = []

    def run(self) -> list[Run]:
        coming = 0
        while coming < len(self._jobs) or self._events:
            now = self._events[0][0] if self._events else math.inf
            if coming < len(self._jobs) and self._jobs[coming].at <= now:
                now, job = self._jobs[coming].at, self._jobs[coming]
                self._deployments[self._times[job.model].type].waiting.append(coming)
                coming += 1
            else:
                _, slot, kind = heapq.heappop(self._events)
                if slot >= 0:
                    self._deployments[kind].running -= 1
                    self._deployments[kind].idle.append(slot)
            for kind, deployment in self._deployments.items():
                self._scale(kind, deployment, now)
                self._begin(kind, deployment, now)
        return self._runs

    def _scale(self, kind: str, deployment: _Deployment, now: float) -> None:
        wanted = deployment.wanted(self._gpus)
        more, fewer = wanted > deployment.replicas, wanted < deployment.replicas
        deployment.more_since = self._since(deployment.more_since, more, kind, now, _UPSCALE_SECONDS)
        deployment.fewer_since = self._since(deployment.fewer_since, fewer, kind, now, _DOWNSCALE_SECONDS)
        if deployment.more_since is not None and now - deployment.more_since >= _UPSCALE_SECONDS:
            while self._free and deployment.replicas < wanted:
                slot = self._free.pop()
                self._held[slot] = ()
                deployment.idle.append(slot)
                deployment.replicas += 1
        if deployment.fewer_since is not None and now - deployment.fewer_since >= _DOWNSCALE_SECONDS:
            while deployment.idle and deployment.replicas > wanted:
                self._free.append(deployment.idle.pop())
                deployment.replicas -= 1

    def _since(self, since: float | None, holds: bool, kind: str, now: float, delay: float) -> float | None:
        """Returns the time since which a condition has held, and schedules a new condition's check after its delay."""
        if not holds:
            return None
        if since is None:
            heapq.heappush(self._events, (now + delay, -1, kind))
            return now
        return since

    def _begin(self, kind: str, deployment: _Deployment, now: float) -> None:
        while deployment.waiting and deployment.idle:
            number, slot = deployment.waiting.popleft(), deployment.idle.pop(0)
            job = self._jobs[number].to_waiting(number, self._times)
            run = begin_run(self._jobs[number], job, slot, self._held[slot], now, self._times)
            self._held[slot] = (job.need,)
            deployment.running += 1
            heapq.heappush(self._events, (run.ended_at, slot, kind))
            self._runs.append(run)
