"""The values that the scheduler works with: what a job needs, what a slot holds, and the bounds on waiting."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Need(NamedTuple):
    """What has to be loaded for a job."""

    kind: str
    """The model's type: another one is another replica."""
    model: str
    """Another one of the type is loaded in the same replica."""
    loras: tuple[str, ...] = ()

    def distance(self, held: "Holding") -> int:
        """How much of it has to be loaded where this is held: 0 is nothing, 3 all."""
        return min((self._distance_from(other) for other in held), default=3)

    def _distance_from(self, other: "Need") -> int:
        if other.kind != self.kind:
            return 3
        if other.model != self.model:
            return 2
        return int(other.loras != self.loras)


Holding = tuple[Need, ...]
"""What a slot has loaded: of each model, what its last job needed; the one that was used last is the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A pending job. Times are in seconds."""

    number: int
    owner: str
    priority: int
    need: Need
    since: float
    """When it was submitted."""
    cost_seconds: float
    """How long it is thought to run."""
    rank: int
    """Where it stands among its owner's jobs: its number, or that of the one in whose place a user put it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How long what may wait for what.

    A job is overtaken for what a slot holds by jobs of the same owner that were submitted at most the patience after
    it, and by those of owners who have had at most the patience more; a third of that where only other LoRAs have to
    be loaded, two where it is another model of the type.
    """

    age_seconds: float = 600.0
    patience_seconds: float = 300.0
    patience_jobs: float = 6.0
    """In jobs of the length of the one that overtakes, where that is more."""

    def patience(self, distance: int, cost_seconds: float) -> float:
        """In seconds, for a job that needs so much loaded."""
        return max(self.patience_seconds, self.patience_jobs * cost_seconds) * distance / 3


@dataclass(kw_only=True, slots=True)
class Ledger:
    """What was begun so far: all that the order of the pending jobs depends on beside these."""

    least: float = 0.0
    """What the owner has had who has had the least of those who wait; who comes back has had no less."""
    had: dict[str, float] = field(default_factory=dict)
    """Of each owner, in seconds of work."""
    begun: dict[int, float] = field(default_factory=dict)
    """When a job of each class last began."""

    def tag(self, owner: str) -> float:
        """The start tag of an owner who comes back."""
        return max(self.least, self.had.get(owner, 0.0))
