"""The history of the machine's use, on SQLite and on PostgreSQL."""

import threading
from dataclasses import asdict, replace

from sqlalchemy import insert

from deployments.jobs.retention import STATS_SECONDS
from deployments.jobs.schema import stats_history
from deployments.jobs.stats_history import MAX_POINTS, Use
from deployments.jobs.store import JobStore
from tests.unit.conftest import Clock

USE = Use(cpu_percent=50.0, ram_used_gb=4.0, ram_total_gb=16.0, gpu_percent=0.0, vram_used_mb=0.0, vram_total_mb=0.0)


def _add(store: JobStore, clock: Clock, *, minute: int, cpu_percent: float = 50.0, node: str = "here") -> bool:
    clock.now = minute * 60.0 + 7
    return store.stats.add(node, _use(cpu_percent))


def _use(cpu_percent: float) -> Use:
    return replace(USE, cpu_percent=cpu_percent)


def test_an_empty_history_has_no_points(store: JobStore) -> None:
    assert store.stats.read(24).points == []


def test_points_are_in_the_order_of_their_time_and_start_within_the_period(store: JobStore, clock: Clock) -> None:
    for minute in (1000, 1060, 1061, 1090):
        assert _add(store, clock, minute=minute, cpu_percent=minute / 100)
    period = store.stats.read(1)
    assert period.interval_seconds == 60
    assert period.points == [(minute * 60.0, replace(USE, cpu_percent=minute / 100)) for minute in (1060, 1061, 1090)]
    assert [begin for begin, _ in store.stats.read(0.001).points] == [1090 * 60.0]


def test_only_the_first_row_of_a_minute_and_machine_is_kept(store: JobStore, clock: Clock) -> None:
    assert _add(store, clock, minute=1000, cpu_percent=10)
    assert not _add(store, clock, minute=1000, cpu_percent=90)
    [(_, use)] = store.stats.read(1).points
    assert use.cpu_percent == 10
    assert _add(store, clock, minute=1000, cpu_percent=30, node="there")
    [(_, use)] = store.stats.read(1).points
    assert use.cpu_percent == 20, "the average of both machines"


def test_dispatchers_that_write_at_once_leave_one_row(store: JobStore, clock: Clock) -> None:
    added: list[bool] = []
    threads = [threading.Thread(target=lambda: added.append(store.stats.add("here", USE))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [False] * 5 + [True]


def test_a_week_is_averaged_into_few_points_and_older_rows_are_removed(store: JobStore, clock: Clock) -> None:
    week = STATS_SECONDS // 60
    first = 1_000_000
    *earlier, last = range(first, first + week + 200, 7)
    with store.database.writing() as connection:
        rows = [{"minute": minute, "node": "here", **asdict(_use(float(minute % 2)))} for minute in earlier]
        connection.execute(insert(stats_history), rows)
    _add(store, clock, minute=last, cpu_percent=float(last % 2))
    period = store.stats.read(168)
    assert len(period.points) <= MAX_POINTS + 1
    assert period.interval_seconds == 21 * 60
    begins = [begin for begin, _ in period.points]
    assert begins == sorted(begins)
    assert all(begin % period.interval_seconds == 0 for begin in begins)
    assert {round(use.cpu_percent, 3) for _, use in period.points[1:-1]} == {0.333, 0.667}
    clock.now = (first + 100) * 60.0
    assert store.stats.read(168).points[0][0] >= (first + 150) * 60, "rows of more than a week ago are gone"


def test_a_point_of_a_full_day_has_an_interval_of_three_minutes(store: JobStore, clock: Clock) -> None:
    for minute, cpu_percent in ((1500, 10.0), (1501, 20.0), (1502, 60.0), (1503, 5.0)):
        _add(store, clock, minute=minute, cpu_percent=cpu_percent)
    period = store.stats.read(24)
    assert period.interval_seconds == 180
    assert [(begin, use.cpu_percent) for begin, use in period.points] == [(90_000.0, 30.0), (90_180.0, 5.0)]
