"""The GPUs follow the jobs: what the autoscaling policy answers Serve."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments import autoscaling
from deployments.autoscaling import Demand, FollowDemand, Idle, decide

IDLE_SECONDS = 300.0


def decided(slots: int, now: float = 0.0, **demands: Demand) -> dict[str, int]:
    return decide(demands, slots, now, IDLE_SECONDS)


def wants(jobs: float, replicas: int, idle_since: float | None = None, peak: int = 0, kept: int = 0) -> Demand:
    idle = None if idle_since is None else Idle(since=idle_since, peak=peak)
    return Demand(jobs=jobs, replicas=replicas, idle=idle, kept=kept)


def test_who_needs_more_gets_what_is_free() -> None:
    assert decided(3, A=wants(2, 0), B=wants(0, 1, 0)) == {"A": 2, "B": 1}


def test_then_what_has_been_idle_the_longest() -> None:
    assert decided(3, A=wants(1, 0), B=wants(0, 1, 50), C=wants(1, 2, 40), now=60) == {"A": 1, "B": 1, "C": 1}


def test_who_is_busy_gives_up_nothing() -> None:
    assert decided(2, A=wants(1, 0), B=wants(2, 2)) == {"A": 0, "B": 2}


def test_a_job_that_has_just_ended_is_not_waited_for() -> None:
    assert decided(1, A=wants(1, 0), B=wants(0.7, 1)) == {"A": 1, "B": 0}


def test_a_job_that_is_counted_twice_while_it_begins_starts_no_other_replica() -> None:
    assert decided(4, A=wants(1.4, 1)) == {"A": 1}
    assert decided(4, A=wants(1.6, 1)) == {"A": 2}
    assert decided(4, A=wants(0.1, 0)) == {"A": 1}


def test_what_was_not_needed_once_for_long_is_given_up() -> None:
    assert decided(4, A=wants(1, 4, 10, peak=2), now=309) == {"A": 4}
    assert decided(4, A=wants(1, 4, 10, peak=2), now=310) == {"A": 2}


def test_what_was_needed_before_others_took_it_is_not_taken_back() -> None:
    assert decided(4, A=wants(0, 1, 0, peak=4), B=wants(3, 3), now=400) == {"A": 1, "B": 3}


def test_what_is_preloaded_stays_unless_others_need_its_place() -> None:
    assert decided(2, A=wants(0, 0, kept=1), B=wants(1, 1)) == {"A": 1, "B": 1}
    assert decided(2, A=wants(0, 1, 0, kept=1), B=wants(1, 1), now=1000) == {"A": 1, "B": 1}
    assert decided(2, A=wants(0, 1, 0, kept=1), B=wants(2, 1)) == {"A": 0, "B": 2}
    assert decided(1, A=wants(0, 0, kept=1), B=wants(1, 1)) == {"A": 0, "B": 1}


def test_what_is_idle_is_remembered_with_the_most_that_was_needed_since() -> None:
    demand = wants(1, 3).watch(10)
    assert demand.idle == Idle(since=10, peak=1)
    demand = Demand(jobs=2, replicas=3, idle=demand.idle).watch(20)
    assert demand.idle == Idle(since=10, peak=2)
    assert Demand(jobs=2.9, replicas=3, idle=demand.idle).watch(30).idle is None


deployment = st.builds(
    wants,
    st.floats(0, 6),
    st.integers(0, 6),
    st.one_of(st.none(), st.floats(0, 1000)),
    st.integers(0, 6),
    st.integers(0, 1),
)


@given(st.lists(deployment, min_size=1, max_size=5), st.integers(1, 8), st.floats(0, 2000))
def test_there_are_never_more_than_slots_and_nobody_busy_loses_one(drawn: list[Demand], slots: int, now: float) -> None:
    demands = {str(number): demand for number, demand in enumerate(drawn)}
    before = sum(demand.replicas for demand in drawn)
    targets = decide(demands, slots, now, IDLE_SECONDS)
    assert sum(targets.values()) <= max(slots, before)
    for name, demand in demands.items():
        assert targets[name] >= min(demand.replicas, int(demand.jobs - 0.8) + 1 if demand.jobs > 0.8 else 0)
    unmet = any(targets[name] < demand.needed for name, demand in demands.items())
    assert not unmet or sum(targets.values()) >= slots, "a slot is empty while a job waits for a replica"


def context(name: str, jobs: float, target: int, *, now: float, state: dict[str, Any], slots: int = 2) -> Any:
    """Of Serve's AutoscalingContext, what the policy reads."""
    return SimpleNamespace(
        deployment_name=name,
        total_num_requests=jobs,
        target_num_replicas=target,
        capacity_adjusted_max_replicas=slots,
        current_time=now,
        policy_state=state,
        config=SimpleNamespace(initial_replicas=None),
    )


def test_a_deployment_that_is_to_stay_without_replicas_is_not_named() -> None:
    policy = FollowDemand()
    contexts: dict[Any, Any] = {
        name: context(name, 2, target, now=0, state={}) for name, target in (("A", 2), ("B", 0))
    }
    targets, _ = policy(contexts)
    assert targets == {"A": 2}, "Serve gives a replica to a deployment that has requests, and is named"


def test_what_is_idle_goes_after_idle_seconds() -> None:
    policy, state = FollowDemand(idle_seconds=10), dict[str, Any]()
    for now, expected in ((0, 1), (9, 1), (10, 0)):
        targets, states = policy({"A": context("A", 0, 1, now=now, state=state)})
        assert targets == {"A": expected}
        assert states is not None
        state = states["A"]


def test_a_policy_that_fails_changes_nothing(caplog: Any) -> None:
    assert FollowDemand()({"A": SimpleNamespace(deployment_name="A")}) == ({}, None)
    assert "autoscaling policy failed" in caplog.text


def test_it_needs_the_standard_library_alone() -> None:
    """Serve's controller unpickles it where nothing else of this project may be."""
    code = f"import runpy, sys; runpy.run_path({autoscaling.__file__!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not {"ray", "torch", "pydantic", "deployments"} & set(done.stdout.split())
