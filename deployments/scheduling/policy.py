"""The scheduler's value types: the needs of jobs, the holdings of slots, and the limits on waiting."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Need(NamedTuple):
    """The model and the LoRAs that a job needs loaded."""

    kind: str
    """The model's type. Each type has replicas of its own."""
    model: str
    """The model's id. A replica can load any model of its type."""
    loras: tuple[str, ...] = ()

    def distance(self, held: "Holding") -> int:
        """Returns how much a slot with this holding must load: 0 nothing, 1 LoRAs, 2 a model, 3 a replica."""
        return min((self._distance_from(other) for other in held), default=3)

    def _distance_from(self, other: "Need") -> int:
        if other.kind != self.kind:
            return 3
        if other.model != self.model:
            return 2
        return int(other.loras != self.loras)


Holding = tuple[Need, ...]
"""The loaded models of a slot, each as its last job needed it, least recently used first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A pending job. Times are in seconds."""

    number: int
    owner: str
    priority: int
    need: Need
    since: float
    """Time of the submission."""
    cost_seconds: float
    """Expected run time."""
    queue_order: int
    """Place among the jobs of the owner: the job's own number, or the number whose place a user gave it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The limits on overtaking and on aging.

    A job whose model a slot already holds may overtake the job whose turn it is:

    - a job of the same owner, if it was submitted at most the patience later;
    - a job of another owner, if that owner has had at most the patience more work.

    The patience is shorter if the overtaken job needs less loaded: a third of it for other LoRAs, two thirds for
    another model of the same type.
    """

    age_seconds: float = 600.0
    """A priority class rises by one for each time that its first job has waited this long."""
    patience_seconds: float = 300.0
    """The least patience."""
    patience_jobs: float = 6.0
    """The patience as a multiple of the overtaking job's run time, where that is longer."""

    def patience(self, distance: int, cost_seconds: float) -> float:
        """Returns the patience in seconds.

        Args:
            distance: `Need.distance` of the overtaken job.
            cost_seconds: run time of the overtaking job.
        """
        return max(self.patience_seconds, self.patience_jobs * cost_seconds) * distance / 3


@dataclass(kw_only=True, slots=True)
class Ledger:
    """The history that the order of pending jobs depends on: the shares of owners and the starts of classes."""

    least: float = 0.0
    """The smallest start tag among the waiting owners. An owner who returns does not start below it."""
    had: dict[str, float] = field(default_factory=dict)
    """Work that each owner has had, in seconds."""
    begun: dict[int, float] = field(default_factory=dict)
    """Time of the last start of a job in each priority class."""

    def tag(self, owner: str) -> float:
        """Returns the start tag of an owner who submits a job while having none in the queue."""
        return max(self.least, self.had.get(owner, 0.0))
