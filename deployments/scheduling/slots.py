"""The dispatcher's model of its slots: what each one holds, and until when it is busy. Pure. Times are in seconds."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from deployments.scheduling.policy import Holding, Need

WORTH_WAITING = 2.0
"""Limit on waiting for a busy slot that holds the right model type, in multiples of the type's load time.

Another slot could begin sooner. But it would cause two loads, because other jobs need what that slot holds now.
"""
_LOAD_SECONDS = 10.0
"""Assumed load time of a model type that was never loaded."""


@dataclass(kw_only=True, slots=True)
class _Slot:
    holds: Holding = ()
    runs: Need | None = None
    loads: bool = False
    """Whether the running job had to wait for its model type."""
    ends_at: float = 0.0


class Slots:
    """A fixed number of slots. Each runs one job at a time."""

    def __init__(self, count: int, *, models: int = 1, shared: bool = False) -> None:
        """Begins with empty slots.

        Args:
            count: number of slots.
            models: number of models that a replica keeps loaded.
            shared: whether a replica can hold models of several types.
        """
        self._slots = [_Slot() for _ in range(count)]
        self._models, self._shared = models, shared
        self._last_used = list(range(count))
        """Slot numbers, least recently used first."""
        self._load_seconds: dict[str, float] = {}

    def free(self, limit: int) -> dict[Holding, list[int]]:
        """Returns free slots by what they hold, least recently used first.

        Args:
            limit: the largest number of slots to return.
        """
        found: defaultdict[Holding, list[int]] = defaultdict(list)
        idle = [index for index in self._last_used if self._slots[index].runs is None]
        for index in idle[: max(0, limit)]:
            found[self._slots[index].holds].append(index)
        return dict(found)

    def soon(self, now: float) -> Counter[str]:
        """Returns, for each model type, the number of busy slots that hold it and that are worth waiting for."""
        return Counter(
            slot.runs.kind
            for slot in self._slots
            if slot.runs is not None
            and slot.ends_at - now < WORTH_WAITING * self._load_seconds.get(slot.runs.kind, _LOAD_SECONDS)
        )

    def begin(self, index: int, need: Need, *, ends_at: float) -> None:
        """Records that a job begins on a slot, with its expected end."""
        slot = self._slots[index]
        kinds = {held.kind for held in slot.holds}
        slot.loads = need.kind not in kinds
        if not self._shared and kinds != {need.kind}:
            slot.holds = ()
        others = tuple(held for held in slot.holds if held.model != need.model)
        slot.holds = (*others[max(0, len(others) - self._models + 1) :], need)
        slot.runs, slot.ends_at = need, ends_at

    def expect(self, index: int, *, ends_at: float) -> None:
        """Updates the expected end of the job on a slot."""
        self._slots[index].ends_at = ends_at

    def end(self, index: int, *, holds: bool, load_seconds: float | None) -> None:
        """Records the end of the job on a slot.

        Args:
            index: number of the slot.
            holds: whether the replica is alive and still has the job's model loaded.
            load_seconds: time between the claim and the loaded model; None if the model was never loaded.
        """
        slot = self._slots[index]
        self._last_used.remove(index)
        self._last_used.append(index)
        if slot.loads and slot.runs is not None and load_seconds is not None:
            self._load_seconds[slot.runs.kind] = load_seconds
        slot.runs = None
        if not holds:
            slot.holds = ()

    def forget_missing(self, replicas: Mapping[str, int]) -> None:
        """Empties the slots whose replicas are gone.

        The least recently used idle slots are emptied, because slots do not know their replicas.

        Args:
            replicas: number of live replicas of each model type. Shared replicas are counted over all types.
        """
        holders: defaultdict[str, list[int]] = defaultdict(list)
        for index in self._last_used:
            for kind in {"" if self._shared else held.kind for held in self._slots[index].holds}:
                holders[kind].append(index)
        for kind, indices in holders.items():
            alive = sum(replicas.values()) if self._shared else replicas.get(kind, 0)
            idle = [index for index in indices if self._slots[index].runs is None]
            for index in idle[: max(0, len(indices) - alive)]:
                self._slots[index].holds = ()
