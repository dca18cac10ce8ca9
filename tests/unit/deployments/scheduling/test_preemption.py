"""The choice of the job that is preempted for a job of higher priority."""

from typing import Any

import pytest

from deployments.scheduling.preemption import MAX_PREEMPTIONS, RunningJob, choose_job_to_preempt

HIGH, NORMAL, LOW = 1, 0, -1


def runs(job_id: str, **changes: Any) -> RunningJob:
    """Makes a running job of normal priority that ends at second 1000."""
    usual: dict[str, Any] = {"priority": NORMAL, "ends_at": 1000.0, "preemptions": 0, "preemption_requested": False}
    return RunningJob(id=job_id, **(usual | changes))


def chosen(priority: int, *running: RunningJob) -> str | None:
    return choose_job_to_preempt(priority, running, now=100, patience_seconds=300)


def test_the_longest_job_of_the_lowest_priority_is_preempted() -> None:
    running = [runs("a"), runs("b", priority=LOW), runs("c", priority=LOW, ends_at=2000.0)]
    assert chosen(HIGH, *running) == "c"
    assert chosen(NORMAL, *running) == "c"
    assert chosen(LOW, *running) is None


@pytest.mark.parametrize(
    "change",
    [
        {"priority": HIGH},
        {"ends_at": 400.0},
        {"ends_at": None},
        {"preemptions": MAX_PREEMPTIONS},
        {"preemption_requested": True},
    ],
)
def test_some_jobs_are_never_preempted(change: dict[str, Any]) -> None:
    assert chosen(HIGH, runs("a", **change)) is None
    assert chosen(HIGH, runs("a")) == "a"


def test_no_job_is_preempted_while_another_slot_becomes_free_soon() -> None:
    assert chosen(HIGH, runs("a"), runs("b", ends_at=390.0)) is None
    assert chosen(HIGH, runs("a"), runs("b", preemption_requested=True)) is None
