"""The removal of old events, in short transactions that find them by an index."""

import sqlite3
import threading

import pytest
from sqlalchemy import event, insert, text

from deployments.jobs import events as event_log
from deployments.jobs.events import delete_between
from deployments.jobs.schema import events
from deployments.jobs.store import JobStore
from tests.unit.conftest import Clock

_CHUNK = 10


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "_PRUNED_AT_ONCE", _CHUNK)


def _add(store: JobStore, ages: list[float], now: float) -> None:
    rows = [{"job_id": "", "type": "updated", "data": "{}", "created_at": now - age} for age in ages]
    with store.database.writing() as connection:
        connection.execute(insert(events), rows)


def test_old_events_are_deleted_in_transactions_of_a_limited_size(store: JobStore, clock: Clock) -> None:
    _add(store, [200.0] * 35 + [10.0] * 5, clock.now)
    sizes = list[int]()

    @event.listens_for(store.database.engine, "after_cursor_execute")
    def count(connection: object, cursor: sqlite3.Cursor, statement: str, *rest: object) -> None:
        if statement.startswith("DELETE"):
            sizes.append(cursor.rowcount)

    assert store.events.prune(older_than_seconds=100) == 35
    assert sizes == [10, 10, 10, 5]
    assert [found.created_at for found in store.events.after(0)] == [clock.now - 10] * 5
    assert store.events.prune(older_than_seconds=100) == 0


def test_events_of_machines_whose_clocks_differ_are_deleted(store: JobStore, clock: Clock) -> None:
    _add(store, [200.0, 99.0, 200.0, 98.0], clock.now)
    assert store.events.prune(older_than_seconds=100) == 2
    clock.now += 2
    assert store.events.prune(older_than_seconds=100) == 1
    clock.now += 2
    assert store.events.prune(older_than_seconds=100) == 1


def test_events_with_a_time_in_the_future_do_not_end_the_pruning(store: JobStore, clock: Clock) -> None:
    """The clock of the machine was wrong when the log began."""
    _add(store, [-1000.0, *[200.0] * 35], clock.now)
    assert store.events.prune(older_than_seconds=100) == 35


def test_gaps_in_the_numbers_do_not_end_the_pruning(store: JobStore, clock: Clock) -> None:
    old = {"job_id": "", "type": "updated", "data": "{}", "created_at": clock.now - 200}
    with store.database.writing() as connection:
        connection.execute(insert(events), [old | {"sequence": number} for number in (1, 500, 1000, 100_000)])
    assert store.events.prune(older_than_seconds=100) == 4


def test_another_writer_has_its_turn_between_two_transactions(
    store: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause is replaced by the whole turn of another writer."""
    _add(store, [200.0] * 25, clock.now)
    turns = list[int]()

    def write(seconds: float) -> None:
        assert seconds > 0
        writer = threading.Thread(target=_add, args=(store, [0.0], clock.now))
        writer.start()
        writer.join(20)
        turns.append(writer.is_alive())

    monkeypatch.setattr("deployments.jobs.events.time.sleep", write)
    assert store.events.prune(older_than_seconds=100) == 25
    assert turns == [False] * 3
    assert len(store.events.after(0)) == 3


_EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN"}


def test_old_events_are_found_by_the_primary_key(store: JobStore, clock: Clock) -> None:
    engine = store.database.engine
    _add(store, [200.0] * 5000, clock.now)
    with store.database.writing() as connection:
        connection.execute(text("ANALYZE"))
        statement = delete_between(1, 1 + _CHUNK, clock.now).compile(engine, compile_kwargs={"literal_binds": True})
        explain = _EXPLAIN[engine.dialect.name]
        plan = [" ".join(map(str, row)) for row in connection.execute(text(f"{explain} {statement}"))]
    if engine.dialect.name == "sqlite":
        assert "SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in plan[0]
        assert not any("SCAN events" in line for line in plan)
    else:
        assert any("using events_pkey on events" in line for line in plan)
        assert not any("Seq Scan on events" in line for line in plan)
