"""A trace in virtual time: jobs come in, slots are given to them, load what they need and run."""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from deployments.autoscaling import Demand, decide
from deployments.scheduling.policy import Holding, Waiting
from deployments.scheduling.queue import Queue
from deployments.scheduling.slots import WORTH_WAITING
from deployments.simulation.baselines import FirstComeFirstServed
from deployments.simulation.traces import ModelTimes, Run, TraceJob, begin_run

IDLE_SECONDS = 300.0


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


class _Replicas:
    """Which model type has how many of the slots, as the autoscaling policy decides it."""

    def __init__(self, slots: int, kinds: Iterable[str]) -> None:
        self._slots = slots
        self._demands = {kind: Demand(jobs=0, replicas=0) for kind in sorted(kinds)}

    def begin(self, kinds: Iterable[str], now: float) -> list[str]:
        """Jobs of these types begin; the types that give up a replica for them."""
        for kind, count in Counter(kinds).items():
            self._change(kind, count, now)
        if all(demand.jobs <= demand.replicas for demand in self._demands.values()):
            return []
        return self._decide(now)

    def end(self, kind: str, now: float) -> None:
        self._change(kind, -1, now)

    def give_up(self, now: float) -> list[str]:
        """The types that have had a replica idle for too long, once for each."""
        over = [kind for kind, demand in self._demands.items() if demand.is_over(now, IDLE_SECONDS)]
        gone = self._decide(now) if over else []
        for kind in over:
            self._demands[kind] = replace(self._demands[kind], idle=None).watch(now)
        return gone

    def _change(self, kind: str, count: int, now: float) -> None:
        demand = self._demands[kind]
        self._demands[kind] = replace(demand, jobs=demand.jobs + count).watch(now)

    def _decide(self, now: float) -> list[str]:
        gone = list[str]()
        for kind, count in decide(self._demands, self._slots, now, IDLE_SECONDS).items():
            demand = self._demands[kind]
            gone += [kind] * (demand.replicas - count)
            self._demands[kind] = replace(demand, replicas=count).watch(now)
        return gone


def replay(
    jobs: Sequence[TraceJob], gpus: int, times: Mapping[str, ModelTimes], chooser: Queue | FirstComeFirstServed
) -> list[Run]:
    """Replays a trace on as many slots as there are GPUs.

    With the scheduler, which type gives up its slot for another is the autoscaling policy's to decide; it does so at
    once here, and what that takes is in the load times. Who comes first takes what is free.

    Args:
        jobs: in the order of submission.
        gpus: how many.
        times: of the models.
        chooser: what decides which job goes next; an empty one.

    Returns:
        What became of each job, in the order in which they began.
    """
    free: dict[Holding, list[int]] = {(): list(range(gpus))}
    held: list[Holding] = [()] * gpus
    ends: list[tuple[float, int]] = []
    used = [times[model] for model in {job.model for job in jobs}]
    by_type = {of.type: _Ends(WORTH_WAITING * of.load_seconds) for of in used}
    replicas = _Replicas(gpus, by_type) if isinstance(chooser, Queue) else None
    runs: list[Run] = []
    coming = 0
    while coming < len(jobs) or ends:
        now = min(ends[0][0] if ends else math.inf, jobs[coming].at if coming < len(jobs) else math.inf)
        while coming < len(jobs) and jobs[coming].at <= now:
            chooser.add(jobs[coming].to_waiting(coming, times))
            coming += 1
        while ends and ends[0][0] <= now:
            _, slot = heapq.heappop(ends)
            [need] = held[slot]
            by_type[need.kind].end(now)
            if replicas is not None:
                replicas.end(need.kind, now)
            free.setdefault(held[slot], []).append(slot)
        if replicas is not None:
            _empty(replicas.give_up(now), free, held)
        if not free or not len(chooser):
            continue
        soon = {kind: of.count(now) for kind, of in by_type.items()}
        given = chooser.assign(free, now, soon=soon)
        if replicas is not None:
            givers = replicas.begin([job.need.kind for job, _ in given], now)
            given = _place(given, givers, free, held)
            _empty(givers, free, held)
        for job, slot in given:
            run = begin_run(jobs[job.number], job, slot, held[slot], now, times)
            held[slot] = (job.need,)
            heapq.heappush(ends, (run.ended_at, slot))
            by_type[job.need.kind].begin(run.ended_at)
            runs.append(run)
    return runs


def _place(
    given: list[tuple[Waiting, int]], givers: list[str], free: dict[Holding, list[int]], held: Sequence[Holding]
) -> list[tuple[Waiting, int]]:
    """Jobs and the slots on which they run, once the autoscaling policy has decided which types give up theirs.

    Those that did are taken out of `givers`.
    """
    placed = [(job, slot) for job, slot in given if held[slot] and held[slot][0].kind == job.need.kind]
    others = [(job, slot) for job, slot in given if not held[slot] or held[slot][0].kind != job.need.kind]
    for _, slot in others:
        free.setdefault(held[slot], []).append(slot)
    for job, _ in others:
        own = next(_take(free, job.need.kind), None)
        if own is None:
            own = next(_take(free, givers.pop())) if givers else free[()].pop()
            if () in free and not free[()]:
                del free[()]
        placed.append((job, own))
    return placed


def _empty(kinds: Iterable[str], free: dict[Holding, list[int]], held: list[Holding]) -> None:
    """Takes a replica of each of these types away."""
    for kind in kinds:
        slot = next(_take(free, kind))
        held[slot] = ()
        free.setdefault((), []).append(slot)


def _take(free: dict[Holding, list[int]], kind: str) -> Iterator[int]:
    """Takes free slots that hold a type out, which has been free the longest first."""
    for held in [held for held in free if held and held[0].kind == kind]:
        while held in free:
            slot = free[held].pop(0)
            if not free[held]:
                del free[held]
            yield slot
