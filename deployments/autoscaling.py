"""How many replicas each generator has: the GPUs follow the jobs that the dispatcher has sent.

Serve calls the policy in its controller, several times a second, which pickles this module: it imports the standard
library alone. Where Serve's own rules bend what it answers is told where it is done.
"""

import logging
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

logger = logging.getLogger("ray.serve")

_BUSY = 0.8
"""Of a job: counts are averages over the last moments, and one that has just ended is still in them."""
_TWICE = 0.5
"""Of a job: one that has just begun may be in them twice, with those that wait and with those that run."""
_IDLE = "idle"


@dataclass(frozen=True, kw_only=True, slots=True)
class Idle:
    """That a deployment has more than it needs."""

    since: float
    """In seconds."""
    peak: int
    """The most that it has needed since then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What one deployment has, and what is asked of it."""

    jobs: float
    """That run or wait in it, averaged over the last moments."""
    replicas: int
    """That it is to have, by the last decision."""
    idle: Idle | None = None
    kept: int = 0
    """Replicas that stay however long they are idle, as long as nobody else needs their slots."""

    @property
    def needed(self) -> int:
        """Replicas, one for each job."""
        return max(int(self.jobs > 0), math.ceil(self.jobs - _TWICE))

    def watch(self, now: float) -> "Demand":
        """The same, with what is remembered of its idle replicas brought up to date."""
        if self.replicas - self.jobs < 1 - _BUSY:
            return replace(self, idle=None)
        idle = self.idle or Idle(since=now, peak=0)
        return replace(self, idle=replace(idle, peak=max(idle.peak, self.needed)))

    def is_over(self, now: float, idle_seconds: float) -> bool:
        """Whether some of what it has was not needed for so long."""
        return self.idle is not None and now - self.idle.since >= idle_seconds


def decide(demands: Mapping[str, Demand], slots: int, now: float, idle_seconds: float) -> dict[str, int]:
    """How many replicas each deployment is to have.

    One that needs more gets the slots that nobody has, and then those of the one that has had idle replicas for the
    longest time. The dispatcher sends no more jobs than there are slots: where one needs more, another is idle, or
    will be seen to be in a moment. What was not needed once in `idle_seconds` is given up.

    Args:
        demands: of each deployment.
        slots: how many replicas there may be of all of them together.
        now: the time, in seconds.
        idle_seconds: how long that is.
    """
    targets = {
        name: min(demand.replicas, max(demand.idle.peak, demand.needed, demand.kept))
        if demand.idle is not None and demand.is_over(now, idle_seconds)
        else demand.replicas
        for name, demand in demands.items()
    }
    for name, demand in demands.items():
        while targets[name] < demand.needed:
            if sum(targets.values()) >= slots:
                victim = _longest_idle(demands, targets, now)
                if victim is None:
                    break
                targets[victim] -= 1
            targets[name] += 1
    for name, demand in demands.items():
        targets[name] = max(targets[name], min(demand.kept, targets[name] + slots - sum(targets.values())))
    return targets


def _longest_idle(demands: Mapping[str, Demand], targets: Mapping[str, int], now: float) -> str | None:
    """The deployment that gives up a replica: it has more than it needs."""
    since = {
        name: now if demand.idle is None else demand.idle.since
        for name, demand in demands.items()
        if targets[name] - demand.jobs >= 1 - _BUSY
    }
    return min(since, key=lambda name: since[name]) if since else None


class FollowDemand:
    """The application's autoscaling policy, which a Serve config names under `autoscaling_policy`."""

    def __init__(self, idle_seconds: float = 300.0) -> None:
        """Takes what `policy_kwargs` has.

        Args:
            idle_seconds: how long a replica stays, with its weights, after its last job, while nobody else needs its
                slot.
        """
        self._idle_seconds = idle_seconds

    def __call__(
        self, contexts: dict[Hashable, Any]
    ) -> tuple[dict[Hashable, int], dict[Hashable, dict[str, Any]] | None]:
        """Serve's interface: from the `AutoscalingContext` of each deployment to its replicas and its `policy_state`.

        Each generator's `max_replicas` is the number of slots, and its `initial_replicas` are those that are kept.
        """
        try:
            return self._decide(contexts)
        except Exception:
            # Serve would leave out the whole round, other applications' too.
            logger.exception("The autoscaling policy failed", extra={"action": "autoscaling_failed"})
            return {}, None

    def _decide(self, contexts: dict[Hashable, Any]) -> tuple[dict[Hashable, int], dict[Hashable, dict[str, Any]]]:
        now = max((float(context.current_time) for context in contexts.values()), default=0.0)
        slots = max((int(context.capacity_adjusted_max_replicas) for context in contexts.values()), default=0)
        keys = {str(context.deployment_name): key for key, context in contexts.items()}
        demands = {name: _read(contexts[key], now) for name, key in keys.items()}
        targets = decide(demands, slots, now, self._idle_seconds)
        states = {
            key: {_IDLE: None if demands[name].is_over(now, self._idle_seconds) else demands[name].idle}
            for name, key in keys.items()
        }
        # A deployment that has no replica, but requests, is given one by Serve if it is named here at all.
        return {keys[name]: count for name, count in targets.items() if count or demands[name].replicas}, states


def _read(context: Any, now: float) -> Demand:
    return Demand(
        jobs=float(context.total_num_requests),
        replicas=int(context.target_num_replicas),
        idle=(context.policy_state or {}).get(_IDLE),
        kept=int(context.config.initial_replicas or 0),
    ).watch(now)
