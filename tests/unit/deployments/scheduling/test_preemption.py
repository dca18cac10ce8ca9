"""Which running job gives way to one of a higher priority."""

from typing import Any

import pytest

from deployments.scheduling.preemption import MOST_TIMES, Running, choose_to_yield

HIGH, NORMAL, LOW = 1, 0, -1


def runs(job_id: str, **changes: Any) -> Running:
    """A job of normal priority that will end at second 1000."""
    usual: dict[str, Any] = {"priority": NORMAL, "ends_at": 1000.0, "given_back": 0, "asked": False}
    return Running(id=job_id, **(usual | changes))


def chosen(priority: int, *running: Running) -> str | None:
    return choose_to_yield(priority, running, now=100, patience_seconds=300)


def test_the_lowest_priority_gives_way_and_of_these_what_runs_the_longest() -> None:
    running = [runs("a"), runs("b", priority=LOW), runs("c", priority=LOW, ends_at=2000.0)]
    assert chosen(HIGH, *running) == "c"
    assert chosen(NORMAL, *running) == "c"
    assert chosen(LOW, *running) is None


@pytest.mark.parametrize(
    "change",
    [{"priority": HIGH}, {"ends_at": 400.0}, {"ends_at": None}, {"given_back": MOST_TIMES}, {"asked": True}],
)
def test_a_job_is_left_alone(change: dict[str, Any]) -> None:
    assert chosen(HIGH, runs("a", **change)) is None
    assert chosen(HIGH, runs("a")) == "a"


def test_nobody_is_asked_while_another_slot_is_soon_free() -> None:
    assert chosen(HIGH, runs("a"), runs("b", ends_at=390.0)) is None
    assert chosen(HIGH, runs("a"), runs("b", asked=True)) is None
