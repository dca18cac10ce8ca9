"""The slots on which jobs run, as the dispatcher knows them: what each holds, and until when it is busy. Pure."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from deployments.scheduling import Need

WORTH_WAITING = 2.0
"""A job waits for a slot that holds its model type for so many times as long as another slot takes to load it: that
one could begin sooner, but would have to load twice, for what it holds is wanted again."""
_LOAD_SECONDS = 10.0
"""How long a model takes to be loaded, where it is not known."""


@dataclass(kw_only=True, slots=True)
class _Slot:
    holds: Need | None = None
    busy: bool = False
    loads: bool = False
    """Whether its job had to wait for its model type."""
    ends_at: float = 0.0


class Slots:
    """A number of slots, none of which holds anything yet. Times are in seconds."""

    def __init__(self, count: int) -> None:
        self._slots = [_Slot() for _ in range(count)]
        self._last_used = list(range(count))
        """The one whose job ended last is the last one."""
        self._load_seconds: dict[str, float] = {}

    def free(self, limit: int) -> dict[Need | None, list[int]]:
        """The slots that could begin a job, by what they hold, which has not been used the longest first.

        Args:
            limit: how many at the most.
        """
        found: defaultdict[Need | None, list[int]] = defaultdict(list)
        for index in [index for index in self._last_used if not self._slots[index].busy][: max(0, limit)]:
            found[self._slots[index].holds].append(index)
        return dict(found)

    def soon(self, now: float) -> Counter[str]:
        """Of each model type, the busy slots that hold it and will be free so soon that it is worth waiting."""
        return Counter(
            slot.holds.kind
            for slot in self._slots
            if slot.busy
            and slot.holds is not None
            and slot.ends_at - now < WORTH_WAITING * self._load_seconds.get(slot.holds.kind, _LOAD_SECONDS)
        )

    def begin(self, index: int, need: Need, *, ends_at: float) -> None:
        """A job begins, which is thought to end then."""
        slot = self._slots[index]
        slot.loads = slot.holds is None or slot.holds.kind != need.kind
        slot.holds, slot.busy, slot.ends_at = need, True, ends_at

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
        slot.busy = False
        self._last_used.remove(index)
        self._last_used.append(index)
        if slot.loads and slot.holds is not None and load_seconds is not None:
            self._load_seconds[slot.holds.kind] = load_seconds
        if not holds:
            slot.holds = None
