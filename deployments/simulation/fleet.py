"""The simulated GPUs of a replay: their holdings, their busy times, and the replicas of each model type."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from deployments.autoscaling import Demand, decide
from deployments.scheduling.policy import Holding, Need
from deployments.scheduling.queue import Assignment

IDLE_SECONDS = 300.0
"""Time after which the autoscaling policy stops an idle replica."""


class Gpus:
    """The GPUs by number: what each one holds, and which are free."""

    def __init__(self, count: int) -> None:
        self.held: list[Holding] = [()] * count
        """The holding of each GPU."""
        self._free: dict[Holding, list[int]] = {(): list(range(count))}

    @property
    def free(self) -> Mapping[Holding, Sequence[int]]:
        """The free GPUs by what they hold."""
        return self._free

    def load(self, gpu: int, need: Need) -> None:
        """Replaces the holding of a busy GPU."""
        self.held[gpu] = (need,)

    def put_back(self, gpu: int) -> None:
        """Marks a GPU as free."""
        self._free.setdefault(self.held[gpu], []).append(gpu)

    def take(self, gpu: int) -> None:
        """Marks a GPU as busy."""
        held = self.held[gpu]
        free = self._free[held]
        if free[-1] == gpu:
            free.pop()  # usual, and faster than a search in hundreds of GPUs
        else:
            free.remove(gpu)
        if not free:
            del self._free[held]

    def take_empty(self) -> int:
        """Marks a free GPU that holds nothing as busy and returns it."""
        gpu = self._free[()][-1]
        self.take(gpu)
        return gpu

    def take_any(self, kind: str) -> int | None:
        """Marks a free GPU that holds this model type as busy and returns it, or returns None if there is none."""
        for held, gpus in self._free.items():
            if held and held[0].kind == kind:
                gpu = gpus[0]
                self.take(gpu)
                return gpu
        return None

    def empty(self, kinds: Iterable[str]) -> None:
        """Unloads one free GPU for each of these model types."""
        for kind in kinds:
            gpu = self.take_any(kind)
            assert gpu is not None
            self.held[gpu] = ()
            self.put_back(gpu)


class BusyGpus:
    """The busy GPUs of one model type, counted by whether they become free soon."""

    def __init__(self, soon_seconds: float) -> None:
        self._soon_seconds = soon_seconds
        self._later: list[float] = []
        """A heap of the ends that are not soon."""
        self._soon = 0

    def begin(self, end: float) -> None:
        """Adds a GPU that becomes free at the time `end`."""
        heapq.heappush(self._later, end)

    def end(self, now: float) -> None:
        """Removes a GPU that becomes free now."""
        self.count_soon(now)
        self._soon -= 1

    def count_soon(self, now: float) -> int:
        """Returns the number of GPUs that become free soon."""
        while self._later and self._later[0] - now < self._soon_seconds:
            heapq.heappop(self._later)
            self._soon += 1
        return self._soon


class Replicas:
    """The number of replicas of each model type, as the autoscaling policy decides it.

    The real policy decides after a delay. Here it decides at once, and the load times include the delay.
    """

    def __init__(self, slots: int, kinds: Iterable[str]) -> None:
        self._slots = slots
        self._demands = {kind: Demand(jobs=0, replicas=0) for kind in sorted(kinds)}

    def begin(self, kinds: Iterable[str], now: float) -> list[str]:
        """Records that jobs of these types begin, and returns the types that give up a replica for them."""
        for kind, count in Counter(kinds).items():
            self._change(kind, count, now)
        if all(demand.jobs <= demand.replicas for demand in self._demands.values()):
            return []
        return self._decide(now)

    def end(self, kind: str, now: float) -> None:
        """Records that a job of this type ends."""
        self._change(kind, -1, now)

    def stop_idle(self, now: float) -> list[str]:
        """Stops replicas that were idle for too long, and returns their types, once for each replica."""
        over = [kind for kind, demand in self._demands.items() if demand.is_over(now, IDLE_SECONDS)]
        stopped = self._decide(now) if over else []
        for kind in over:
            self._demands[kind] = replace(self._demands[kind], idle=None).watch(now)
        return stopped

    def _change(self, kind: str, count: int, now: float) -> None:
        demand = self._demands[kind]
        self._demands[kind] = replace(demand, jobs=demand.jobs + count).watch(now)

    def _decide(self, now: float) -> list[str]:
        stopped = list[str]()
        for kind, count in decide(self._demands, self._slots, now, IDLE_SECONDS).items():
            demand = self._demands[kind]
            stopped += [kind] * (demand.replicas - count)
            self._demands[kind] = replace(demand, replicas=count).watch(now)
        return stopped


def place(assigned: Sequence[Assignment], givers: Sequence[str], gpus: Gpus) -> list[Assignment]:
    """Moves jobs to the GPUs that the autoscaling policy grants them.

    A job stays on its GPU if the GPU holds the job's model type. Otherwise the job gets another free GPU with its type,
    or the GPU of a type that gives up a replica, or an empty GPU.

    Args:
        assigned: the scheduler's assignments. Their GPUs are marked as busy.
        givers: the types that give up a replica. Each one that no job takes over is emptied.
        gpus: the GPUs, which are marked as free or busy accordingly.
    """
    left = list(givers)
    placed = list[Assignment]()
    moved = list[Assignment]()
    for found in assigned:
        held = gpus.held[found.slot]
        stays = held and held[0].kind == found.job.need.kind
        (placed if stays else moved).append(found)
    for _, gpu in moved:
        gpus.put_back(gpu)
    for job, _ in moved:
        own = gpus.take_any(job.need.kind)
        if own is None and left:
            own = gpus.take_any(left.pop())
        placed.append(Assignment(job, gpus.take_empty() if own is None else own))
    gpus.empty(left)
    return placed
