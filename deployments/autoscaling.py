"""The autoscaling policy, which sets the number of replicas of each generator by the dispatched jobs.

Serve's controller unpickles this module and calls the policy several times a second. The module therefore imports only
the standard library, because the controller may have nothing else. Comments mark where the policy works around Serve.
"""

import logging
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

logger = logging.getLogger("ray.serve")

_BUSY = 0.8
"""Share of a job that marks a replica as busy. Serve averages over time, so a job that just ended still counts."""
_TWICE = 0.5
"""Allowance in jobs, because a job that just began may be counted twice: as queued and as running."""
_IDLE = "idle"


@dataclass(frozen=True, kw_only=True, slots=True)
class Idle:
    """The state of a deployment that has more replicas than it needs."""

    since: float
    """Time at which it began, in seconds."""
    peak: int
    """The largest number of replicas that were needed since then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """The jobs and the replicas of one deployment."""

    jobs: float
    """Running and queued jobs, averaged by Serve over a short time."""
    replicas: int
    """Target number of replicas by the last decision."""
    idle: Idle | None = None
    preloaded: int = 0
    """Replicas that stay while they are idle, unless another deployment needs their slots."""

    @property
    def needed(self) -> int:
        """Number of needed replicas: one for each job."""
        return max(int(self.jobs > 0), math.ceil(self.jobs - _TWICE))

    def watch(self, now: float) -> "Demand":
        """Returns this demand with an updated `idle`."""
        if self.replicas - self.jobs < 1 - _BUSY:
            return replace(self, idle=None)
        idle = self.idle or Idle(since=now, peak=0)
        return replace(self, idle=replace(idle, peak=max(idle.peak, self.needed)))

    def is_over(self, now: float, idle_seconds: float) -> bool:
        """Returns whether the deployment has had more replicas than it needs for `idle_seconds`."""
        return self.idle is not None and now - self.idle.since >= idle_seconds

    def without_idle(self, now: float, idle_seconds: float) -> int:
        """Returns the number of replicas that remain when those stop that were not needed for `idle_seconds`."""
        if self.idle is None or not self.is_over(now, idle_seconds):
            return self.replicas
        return min(self.replicas, max(self.idle.peak, self.needed, self.preloaded))


def decide(demands: Mapping[str, Demand], slots: int, now: float, idle_seconds: float) -> dict[str, int]:
    """Decides the number of replicas of each deployment.

    A deployment that needs more replicas gets free slots first, and then the slots of the deployment that has had idle
    replicas for the longest time. There always is such a deployment, at the latest a moment later, because the
    dispatcher sends no more jobs than there are slots. Replicas that were not needed for `idle_seconds` stop.

    Args:
        demands: the demand of each deployment.
        slots: the largest number of replicas of all deployments together.
        now: the time in seconds.
        idle_seconds: how long an unneeded replica stays.
    """
    targets = {name: demand.without_idle(now, idle_seconds) for name, demand in demands.items()}
    for name, demand in demands.items():
        while targets[name] < demand.needed:
            if sum(targets.values()) >= slots:
                victim = _longest_idle(demands, targets, now)
                if victim is None:
                    break
                targets[victim] -= 1
            targets[name] += 1
    for name, demand in demands.items():
        targets[name] = max(targets[name], min(demand.preloaded, targets[name] + slots - sum(targets.values())))
    return targets


def _longest_idle(demands: Mapping[str, Demand], targets: Mapping[str, int], now: float) -> str | None:
    """Returns the deployment that has had an idle replica for the longest time, or None if none has."""
    since = {
        name: now if demand.idle is None else demand.idle.since
        for name, demand in demands.items()
        if targets[name] - demand.jobs >= 1 - _BUSY
    }
    return min(since, key=lambda name: since[name]) if since else None


class FollowDemand:
    """The application's autoscaling policy, which a Serve config names under `autoscaling_policy`."""

    def __init__(self, idle_seconds: float = 300.0) -> None:
        """Takes the `policy_kwargs` of the Serve config.

        Args:
            idle_seconds: how long an idle replica stays with its weights, while no other deployment needs its slot.
        """
        self._idle_seconds = idle_seconds

    def __call__(
        self, contexts: dict[Hashable, Any]
    ) -> tuple[dict[Hashable, int], dict[Hashable, dict[str, Any]] | None]:
        """Maps the `AutoscalingContext` of each deployment to its number of replicas and its `policy_state`.

        Serve calls this. The `max_replicas` of a generator is the number of slots, and its `initial_replicas` is the
        number of replicas that stay while they are idle.
        """
        try:
            return self._decide(contexts)
        except Exception:
            # An exception would make Serve skip this round for all applications.
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
        # Serve starts a replica for every named deployment that has requests. A deployment that is to stay without
        # replicas is therefore left out.
        return {keys[name]: count for name, count in targets.items() if count or demands[name].replicas}, states


def _read(context: Any, now: float) -> Demand:
    return Demand(
        jobs=float(context.total_num_requests),
        replicas=int(context.target_num_replicas),
        idle=(context.policy_state or {}).get(_IDLE),
        preloaded=int(context.config.initial_replicas or 0),
    ).watch(now)
