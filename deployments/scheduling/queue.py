"""Which job goes next, on which slot. Pure: no clock, nothing read, nothing written.

A slot runs one job at a time. In this order it is decided by:

1. priority: a class is raised by one for each `age_seconds` that its first job has waited since one of it began;
2. a user's own order, where there is one;
3. what the slot holds: a job that needs little loaded goes before the one whose turn it is, within a bound;
4. fair shares: it is the turn of the owner who has had the least, by start-time fair queueing (Goyal, Vin and Cheng,
   1996), and of this owner's first job.

No slot is left free while a job waits, except for a job for which a slot that holds its model is soon free.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from deployments.scheduling.policy import Holding, Ledger, Need, Policy, Waiting


class _First(NamedTuple):
    """The job that goes first of its lane; these sort by which of them goes first."""

    level: int
    """The priority that its class has by now, negative."""
    tag: float
    rank: int
    number: int


class _Lane:
    """The jobs of one need and one class."""

    __slots__ = ("need", "owners", "priority", "queues", "submissions")

    def __init__(self, need: Need, priority: int) -> None:
        self.need = need
        self.priority = priority
        self.queues: dict[str, list[tuple[int, int]]] = {}
        """Each owner's, by rank and number."""
        self.owners: list[tuple[float, str]] = []
        """By their tags, which only rise: one that is too low is put right once it comes first."""
        self.submissions: list[tuple[float, int]] = []
        """Of these jobs, and perhaps of some that have begun."""


class Queue:
    """The pending jobs, by what goes first."""

    def __init__(self, policy: Policy, ledger: Ledger, waiting: Iterable[Waiting] = ()) -> None:
        """Fills the queue.

        Args:
            policy: the bounds.
            ledger: what was begun before; it is kept up to date.
            waiting: the pending jobs.
        """
        self._policy = policy
        self._ledger = ledger
        self._jobs: dict[int, Waiting] = {}
        self._lanes: dict[tuple[Need, int], _Lane] = {}
        self._tags: dict[str, float] = {}
        """Of the owners of these jobs."""
        self._by_owner: Counter[str] = Counter()
        self._by_kind: Counter[str] = Counter()
        for job in waiting:
            self.add(job)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Waiting) -> None:
        """Puts a job into the queue."""
        self._jobs[job.number] = job
        if not self._by_owner[job.owner]:
            self._tags[job.owner] = self._ledger.tag(job.owner)
        self._by_owner[job.owner] += 1
        self._by_kind[job.need.kind] += 1
        key = (job.need, job.priority)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(*key)
        queue = lane.queues.get(job.owner)
        if queue is None:
            queue = lane.queues[job.owner] = []
            heapq.heappush(lane.owners, (self._tags[job.owner], job.owner))
        heapq.heappush(queue, (job.rank, job.number))
        heapq.heappush(lane.submissions, (job.since, job.number))

    def assign(
        self,
        free: dict[Holding, list[int]],
        now: float,
        *,
        soon: Mapping[str, int] | None = None,
    ) -> list[tuple[Waiting, int]]:
        """Takes jobs out of the queue, for as many slots as there are.

        Args:
            free: the slots that could begin a job, by what they hold, which has not been used the longest first; those
                that get one are taken out.
            now: the time, in seconds.
            soon: of each model type, the busy slots that hold it and that it is worth waiting for.
        """
        given: list[tuple[Waiting, int]] = []
        while free:
            lanes = self._firsts(now)
            if not lanes:
                break
            self._ledger.least = max(self._ledger.least, min(first.tag for first in lanes))
            chosen = [(*found, held) for held in free if (found := self._choose(held, lanes, soon or {})) is not None]
            if not chosen:
                break
            # What needs the least loaded is given first, while the slot for it is still free.
            *_, first, held = min(chosen, key=lambda found: found[:3])
            given.append((self._begin(lanes[first], first, now), free[held].pop()))
            if not free[held]:
                del free[held]
        return given

    def _firsts(self, now: float) -> dict[_First, _Lane]:
        """What goes first of each lane that has jobs."""
        lanes = [lane for lane in self._lanes.values() if self._tidy(lane)]
        levels: dict[int, int] = {}
        for priority in {lane.priority for lane in lanes}:
            oldest = min(lane.submissions[0][0] for lane in lanes if lane.priority == priority)
            since = max(oldest, self._ledger.begun.get(priority, -math.inf))
            levels[priority] = -priority - max(0, int((now - since) / self._policy.age_seconds))
        firsts = {}
        for lane in lanes:
            tag, owner = lane.owners[0]
            firsts[_First(levels[lane.priority], tag, *lane.queues[owner][0])] = lane
        return firsts

    def _tidy(self, lane: _Lane) -> bool:
        """Puts first what goes first of a lane; whether there is anything."""
        while lane.owners:
            tag, owner = lane.owners[0]
            if not lane.queues[owner]:
                heapq.heappop(lane.owners)
                del lane.queues[owner]
            elif tag < self._tags[owner]:
                heapq.heapreplace(lane.owners, (self._tags[owner], owner))
            else:
                while lane.submissions[0][1] not in self._jobs:
                    heapq.heappop(lane.submissions)
                return True
        return False

    def _choose(
        self, held: Holding, lanes: Mapping[_First, _Lane], soon: Mapping[str, int]
    ) -> tuple[int, int, _First] | None:
        """What goes next on a slot that holds this, after its level and how much of it has to be loaded.

        None where all that waits begins sooner elsewhere.
        """
        found: list[tuple[int, int, _First]] = []
        for first, lane in lanes.items():
            distance = lane.need.distance(held)
            kind = lane.need.kind
            if not held or distance < 3 or self._by_kind[kind] > soon.get(kind, 0):
                found.append((first.level, distance, first))
        if not found:
            return None
        nearest, turn = min(found), min(found, key=lambda item: item[2])
        if nearest[1] < turn[1] and not self._may_overtake(nearest[2], turn[2], turn[1]):
            return turn
        return nearest

    def _may_overtake(self, first: _First, turn: _First, distance: int) -> bool:
        """Whether a job may go before the one whose turn it is and that needs more loaded."""
        job, waits = self._jobs[first.number], self._jobs[turn.number]
        patience = self._policy.patience(distance, job.cost_seconds)
        if job.owner != waits.owner:
            return first.tag - turn.tag <= patience
        return waits.rank == waits.number and job.since - waits.since <= patience

    def _begin(self, lane: _Lane, first: _First, now: float) -> Waiting:
        job = self._jobs.pop(first.number)
        heapq.heappop(lane.queues[job.owner])
        self._tags[job.owner] += job.cost_seconds
        self._ledger.had[job.owner] = self._tags[job.owner]
        self._ledger.begun[job.priority] = now
        self._by_owner[job.owner] -= 1
        self._by_kind[job.need.kind] -= 1
        return job
