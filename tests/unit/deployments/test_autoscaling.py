"""The autoscaling policy: GPUs follow jobs."""

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


def wants(jobs: float, replicas: int, idle_since: float | None = None, peak: int = 0, preloaded: int = 0) -> Demand:
    idle = None if idle_since is None else Idle(since=idle_since, peak=peak)
    return Demand(jobs=jobs, replicas=replicas, idle=idle, preloaded=preloaded)


def test_a_deployment_that_needs_more_gets_free_slots_first() -> None:
    assert decided(3, A=wants(2, 0), B=wants(0, 1, 0)) == {"A": 2, "B": 1}


def test_then_it_gets_the_slots_of_the_longest_idle_deployments() -> None:
    assert decided(3, A=wants(1, 0), B=wants(0, 1, 50), C=wants(1, 2, 40), now=60) == {"A": 1, "B": 1, "C": 1}


def test_a_busy_deployment_gives_up_no_slot() -> None:
    assert decided(2, A=wants(1, 0), B=wants(2, 2)) == {"A": 0, "B": 2}


def test_a_job_that_just_ended_holds_no_slot() -> None:
    assert decided(1, A=wants(1, 0), B=wants(0.7, 1)) == {"A": 1, "B": 0}


def test_a_job_that_is_counted_twice_starts_no_second_replica() -> None:
    assert decided(4, A=wants(1.4, 1)) == {"A": 1}
    assert decided(4, A=wants(1.6, 1)) == {"A": 2}
    assert decided(4, A=wants(0.1, 0)) == {"A": 1}


def test_replicas_that_were_not_needed_for_long_stop() -> None:
    assert decided(4, A=wants(1, 4, 10, peak=2), now=309) == {"A": 4}
    assert decided(4, A=wants(1, 4, 10, peak=2), now=310) == {"A": 2}


def test_a_deployment_does_not_take_back_slots_that_it_needed_earlier() -> None:
    assert decided(4, A=wants(0, 1, 0, peak=4), B=wants(3, 3), now=400) == {"A": 1, "B": 3}


def test_a_preloaded_replica_stays_unless_another_deployment_needs_its_slot() -> None:
    assert decided(2, A=wants(0, 0, preloaded=1), B=wants(1, 1)) == {"A": 1, "B": 1}
    assert decided(2, A=wants(0, 1, 0, preloaded=1), B=wants(1, 1), now=1000) == {"A": 1, "B": 1}
    assert decided(2, A=wants(0, 1, 0, preloaded=1), B=wants(2, 1)) == {"A": 0, "B": 2}
    assert decided(1, A=wants(0, 0, preloaded=1), B=wants(1, 1)) == {"A": 0, "B": 1}


def test_the_idle_state_remembers_the_peak_of_needed_replicas() -> None:
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
def test_replicas_never_exceed_the_slots_and_busy_replicas_stay(drawn: list[Demand], slots: int, now: float) -> None:
    demands = {str(number): demand for number, demand in enumerate(drawn)}
    before = sum(demand.replicas for demand in drawn)
    targets = decide(demands, slots, now, IDLE_SECONDS)
    assert sum(targets.values()) <= max(slots, before)
    for name, demand in demands.items():
        assert targets[name] >= min(demand.replicas, int(demand.jobs - 0.8) + 1 if demand.jobs > 0.8 else 0)
    unmet = any(targets[name] < demand.needed for name, demand in demands.items())
    assert not unmet or sum(targets.values()) >= slots, "a slot is empty while a job waits for a replica"


def context(name: str, jobs: float, target: int, *, now: float, state: dict[str, Any], slots: int = 2) -> Any:
    """Makes the part of Serve's AutoscalingContext that the policy reads."""
    return SimpleNamespace(
        deployment_name=name,
        total_num_requests=jobs,
        target_num_replicas=target,
        capacity_adjusted_max_replicas=slots,
        current_time=now,
        policy_state=state,
        config=SimpleNamespace(initial_replicas=None),
    )


def test_a_deployment_that_stays_without_replicas_is_left_out() -> None:
    policy = FollowDemand()
    contexts: dict[Any, Any] = {
        name: context(name, 2, target, now=0, state={}) for name, target in (("A", 2), ("B", 0))
    }
    targets, _ = policy(contexts)
    assert targets == {"A": 2}, "Serve starts a replica for each named deployment with requests"


def test_an_idle_replica_stops_after_idle_seconds() -> None:
    policy, state = FollowDemand(idle_seconds=10), dict[str, Any]()
    for now, expected in ((0, 1), (9, 1), (10, 0)):
        targets, states = policy({"A": context("A", 0, 1, now=now, state=state)})
        assert targets == {"A": expected}
        assert states is not None
        state = states["A"]


def test_a_failing_policy_changes_nothing(caplog: Any) -> None:
    assert FollowDemand()({"A": SimpleNamespace(deployment_name="A")}) == ({}, None)
    assert "autoscaling policy failed" in caplog.text


def test_the_module_imports_only_the_standard_library() -> None:
    """Serve's controller unpickles the module, perhaps without the rest of this project."""
    code = f"import runpy, sys; runpy.run_path({autoscaling.__file__!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not {"ray", "torch", "pydantic", "deployments"} & set(done.stdout.split())
