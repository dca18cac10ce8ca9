"""The slots on which jobs run, as the dispatcher knows them: what each holds, and until when it is busy. Pure."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from deployments.scheduling.policy import Holding, Need

WORTH_WAITING = 2.0
"""A job waits for a slot that holds its model type for so many times as long as another slot takes to load it: that
one could begin sooner, but would have to load twice, for what it holds is wanted again."""
_LOAD_SECONDS = 10.0
"""How long a model takes to be loaded, where it is not known."""


@dataclass(kw_only=True, slots=True)
class _Slot:
    holds: Holding = ()
    runs: Need | None = None
    loads: bool = False
    """Whether its job had to wait for its model type."""
    ends_at: float = 0.0


class Slots:
    """A number of slots, none of which holds anything yet. Times are in seconds."""

    def __init__(self, count: int, *, models: int = 1, shared: bool = False) -> None:
        """Begins with empty slots.

        Args:
            count: how many.
            models: how many of them each keeps loaded.
            shared: whether what one slot holds may be of several types.
        """
        self._slots = [_Slot() for _ in range(count)]
        self._models, self._shared = models, shared
        self._last_used = list(range(count))
        """The one whose job ended last is the last one."""
        self._load_seconds: dict[str, float] = {}

    def free(self, limit: int) -> dict[Holding, list[int]]:
        """The slots that could begin a job, by what they hold, which has not been used the longest first.

        Args:
            limit: how many at the most.
        """
        found: defaultdict[Holding, list[int]] = defaultdict(list)
        for index in self._free()[: max(0, limit)]:
            found[self._slots[index].holds].append(index)
        return dict(found)

    def _free(self) -> list[int]:
        return [index for index in self._last_used if self._slots[index].runs is None]

    def soon(self, now: float) -> Counter[str]:
        """Of each model type, the busy slots that hold it and will be free so soon that it is worth waiting."""
        return Counter(
            slot.runs.kind
            for slot in self._slots
            if slot.runs is not None
            and slot.ends_at - now < WORTH_WAITING * self._load_seconds.get(slot.runs.kind, _LOAD_SECONDS)
        )

    def begin(self, index: int, need: Need, *, ends_at: float) -> None:
        """A job begins, which is thought to end then."""
        slot = self._slots[index]
        kinds = {held.kind for held in slot.holds}
        slot.loads = need.kind not in kinds
        if not self._shared and kinds != {need.kind}:
            slot.holds = ()
        others = tuple(held for held in slot.holds if held.model != need.model)
        slot.holds = (*others[max(0, len(others) - self._models + 1) :], need)
        slot.runs, slot.ends_at = need, ends_at

    def expect(self, index: int, *, ends_at: float) -> None:
        """Its job tells when it will end."""
        self._slots[index].ends_at = ends_at

    def end(self, index: int, *, holds: bool, load_seconds: float | None) -> None:
        """Its job is over.

        Args:
            index: the slot.
            holds: whether it still holds what the job needed.
            load_seconds: what went by until the job was begun; None where it was not.
        """
        slot = self._slots[index]
        self._last_used.remove(index)
        self._last_used.append(index)
        if slot.loads and slot.runs is not None and load_seconds is not None:
            self._load_seconds[slot.runs.kind] = load_seconds
        slot.runs = None
        if not holds:
            slot.holds = ()

    def see(self, replicas: Mapping[str, int]) -> None:
        """Forgets what is held by replicas that have gone since: those that had not been used the longest.

        Args:
            replicas: how many there are of each model type; all in one where they share them.
        """
        believed: defaultdict[str, list[int]] = defaultdict(list)
        for index in self._last_used:
            for kind in {"" if self._shared else held.kind for held in self._slots[index].holds}:
                believed[kind].append(index)
        for kind, indices in believed.items():
            left = sum(replicas.values()) if self._shared else replicas.get(kind, 0)
            idle = [index for index in indices if self._slots[index].runs is None]
            for index in idle[: max(0, len(indices) - left)]:
                self._slots[index].holds = ()
