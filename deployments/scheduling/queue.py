"""The scheduler: which job runs next on which slot. Pure: no clock, no input, no output.

A slot runs one job at a time. These rules decide, in this order:

1. Priority. A priority class rises by one for each `age_seconds` that its first job has waited since a job of the
   class last began.
2. The order that a user gave the jobs, if any.
3. The holdings of the slot. A job that needs little loaded may overtake the job whose turn it is, within limits.
4. Fair shares. It is the turn of the owner who has had the least work, by start-time fair queueing (Goyal, Vin and
   Cheng, 1996), and of this owner's first job.

No slot stays free while a job waits, with one exception: a job may wait for a slot that holds its model type and is
about to become free.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from deployments.scheduling.policy import Holding, Ledger, Need, Policy, Waiting


class Assignment(NamedTuple):
    """A job and the slot that is to run it."""

    job: Waiting
    slot: int


class _First(NamedTuple):
    """The first job of a lane. These tuples sort in the order in which the jobs should begin."""

    level: int
    """The negative priority of the job's class, raised by aging."""
    tag: float
    """The owner's start tag."""
    queue_order: int
    number: int


class _Lane:
    """The jobs with the same need and the same priority."""

    __slots__ = ("need", "owners", "priority", "queues", "submissions")

    def __init__(self, need: Need, priority: int) -> None:
        self.need = need
        self.priority = priority
        self.queues: dict[str, list[tuple[int, int]]] = {}
        """A heap of (queue order, number) for each owner."""
        self.owners: list[tuple[float, str]] = []
        """A heap of owners by start tag. Tags only rise, so an outdated tag is corrected when it comes first."""
        self.submissions: list[tuple[float, int]] = []
        """A heap of (submission time, number). It may still contain jobs that have begun."""


class Queue:
    """The pending jobs and the choice among them."""

    def __init__(self, policy: Policy, ledger: Ledger, waiting: Iterable[Waiting] = ()) -> None:
        """Fills the queue.

        Args:
            policy: the limits on overtaking and on aging.
            ledger: the history so far. The queue updates it.
            waiting: the pending jobs.
        """
        self._policy = policy
        self._ledger = ledger
        self._jobs: dict[int, Waiting] = {}
        self._lanes: dict[tuple[Need, int], _Lane] = {}
        self._tags: dict[str, float] = {}
        """The start tag of each owner with pending jobs."""
        self._by_owner: Counter[str] = Counter()
        self._by_kind: Counter[str] = Counter()
        for job in waiting:
            self.add(job)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Waiting) -> None:
        """Adds a job."""
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
        heapq.heappush(queue, (job.queue_order, job.number))
        heapq.heappush(lane.submissions, (job.since, job.number))

    def assign(
        self,
        free: Mapping[Holding, Sequence[int]],
        now: float,
        *,
        soon: Mapping[str, int] | None = None,
    ) -> list[Assignment]:
        """Removes the jobs that are to begin now from the queue and assigns each of them a slot.

        Args:
            free: the free slots by what they hold, the least recently used holding first. It is not changed.
            now: the time in seconds.
            soon: for each model type, the number of busy slots that hold it and that are worth waiting for.

        Returns:
            The jobs with their slots, in the order in which they begin.
        """
        left = {held: list(slots) for held, slots in free.items()}
        assigned: list[Assignment] = []
        while left:
            lanes = self._firsts(now)
            if not lanes:
                break
            self._ledger.least = max(self._ledger.least, min(first.tag for first in lanes))
            chosen = [(*found, held) for held in left if (found := self._choose(held, lanes, soon or {})) is not None]
            if not chosen:
                break
            # The job that needs the least loaded begins first, while the slot that holds its model is still free.
            *_, first, held = min(chosen, key=lambda found: found[:3])
            assigned.append(Assignment(self._begin(lanes[first], first, now), left[held].pop()))
            if not left[held]:
                del left[held]
        return assigned

    def _firsts(self, now: float) -> dict[_First, _Lane]:
        """Returns the first job of each lane that has jobs."""
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
        """Corrects the heads of a lane's heaps and returns whether the lane has any jobs."""
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
        """Chooses the next job for a slot with this holding.

        Returns:
            The job's level, its `Need.distance` and the job; or None if every waiting job begins sooner elsewhere.
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
        """Returns whether a job may begin before the job whose turn it is, which needs more loaded.

        Args:
            first: the job that would overtake.
            turn: the job whose turn it is.
            distance: `Need.distance` of the job whose turn it is.
        """
        job, overtaken = self._jobs[first.number], self._jobs[turn.number]
        patience = self._policy.patience(distance, job.cost_seconds)
        if job.owner != overtaken.owner:
            return first.tag - turn.tag <= patience
        was_reordered = overtaken.queue_order != overtaken.number
        return not was_reordered and job.since - overtaken.since <= patience

    def _begin(self, lane: _Lane, first: _First, now: float) -> Waiting:
        """Removes a job from the queue and charges it to its owner."""
        job = self._jobs.pop(first.number)
        heapq.heappop(lane.queues[job.owner])
        self._tags[job.owner] += job.cost_seconds
        self._ledger.had[job.owner] = self._tags[job.owner]
        self._ledger.begun[job.priority] = now
        self._by_owner[job.owner] -= 1
        self._by_kind[job.need.kind] -= 1
        return job
