"""The length of the queue and the waiting times over time, on SQLite and on PostgreSQL."""

from deployments.jobs.store import JobStore
from tests.jobs import make_job
from tests.unit.conftest import Clock

_MINUTE = 60.0


def _at(clock: Clock, minute: float) -> None:
    clock.now = 100_000 * _MINUTE + minute * _MINUTE


def test_an_empty_queue_has_points_without_waits(store: JobStore, clock: Clock) -> None:
    _at(clock, 60)
    waits = store.waits.read(1)
    assert (waits.interval_seconds, len(waits.points)) == (60, 61)
    assert {(point.pending, point.started, point.wait_seconds) for point in waits.points} == {(0, 0, None)}


def test_jobs_wait_from_their_submission_to_their_start(store: JobStore, clock: Clock) -> None:
    _at(clock, -30)
    old = store.writer.submit(make_job())
    _at(clock, 10.5)
    first = store.writer.submit(make_job())
    second = store.writer.submit(make_job())
    _at(clock, 11.5)
    cancelled = store.writer.submit(make_job())
    _at(clock, 12.75)
    assert store.runner.claim(old.id, lease_seconds=60)
    _at(clock, 13.5)
    assert store.runner.claim(first.id, lease_seconds=60)
    store.writer.request_cancel(cancelled.id)
    _at(clock, 15)
    points = {round(point.begin / _MINUTE) - 100_000: point for point in store.waits.read(0.25).points}
    assert list(points) == list(range(16))
    assert [points[minute].pending for minute in (0, 9, 10, 11, 12, 13, 14, 15)] == [1, 1, 3, 4, 3, 1, 1, 1]
    assert [points[minute].started for minute in (11, 12, 13, 14)] == [0, 1, 1, 0]
    assert points[12].wait_seconds == 42.75 * _MINUTE
    assert points[13].wait_seconds == 3 * _MINUTE
    assert store.reader.get(second.id).started_at is None


def test_a_week_has_few_points(store: JobStore, clock: Clock) -> None:
    _at(clock, 0)
    waits = store.waits.read(168)
    assert waits.interval_seconds == 84 * 60
    assert len(waits.points) in (121, 122)


def test_all_periods_are_answered_from_one_reading_for_a_while(store: JobStore, clock: Clock) -> None:
    _at(clock, 10)
    store.writer.submit(make_job())
    assert store.waits.read(1).points[-1].pending == 1
    clock.now += 29
    store.writer.submit(make_job())
    assert store.waits.read(1).points[-1].pending == 1
    assert store.waits.read(167.5).points[-1].pending == 1
    clock.now += 1
    assert store.waits.read(167.5).points[-1].pending == 2
    clock.now -= 3600
    assert store.waits.read(1).points[-1].pending == 0, "a clock that is set back does not keep the old answer"
