"""Settings that change while the service runs, on SQLite and on PostgreSQL."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from deployments.jobs.store import JobStore
from wan22_bridge.errors import InvalidRequest


def test_a_setting_without_a_value_has_its_default(store: JobStore) -> None:
    assert store.settings.get("mode") is None
    assert store.settings.get("mode", "real") == "real"


def test_a_stored_setting_is_read_by_a_later_process(store: JobStore, database_url: str) -> None:
    store.settings.change("limits", None, lambda _: {"vram_gb": 12.5, "offload": True})
    store.settings.change("paused", None, lambda _: False)
    later = JobStore(database_url)
    assert later.settings.get("limits") == {"vram_gb": 12.5, "offload": True}
    assert later.settings.get("paused", True) is False
    later.database.close()


def test_writers_of_the_same_new_name_do_not_fail(database_url: str) -> None:
    stores = [JobStore(database_url) for _ in range(4)]
    for name in ("mode", "limits", "paused"):
        together = threading.Barrier(len(stores))

        def write(number: int, name: str = name, together: threading.Barrier = together) -> None:
            together.wait(timeout=30)
            stores[number].settings.change(name, None, lambda _: number)

        with ThreadPoolExecutor(len(stores)) as threads:
            list(threads.map(write, range(len(stores))))  # raises the error of a writer
        assert stores[0].settings.get(name) in range(len(stores))
        stores[0].settings.change(name, None, lambda _: "last")
        assert stores[-1].settings.get(name) == "last"
    for store in stores:
        store.database.close()


def test_changes_at_the_same_time_are_all_kept(database_url: str) -> None:
    stores, rounds = [JobStore(database_url) for _ in range(4)], 10
    together = threading.Barrier(len(stores))

    def count(number: int) -> None:
        for name in map(str, range(rounds)):
            together.wait(timeout=30)
            stores[number].settings.change(name, {}, lambda values: values | {str(number): True})

    with ThreadPoolExecutor(len(stores)) as threads:
        list(threads.map(count, range(len(stores))))
    everyone = {str(number): True for number in range(len(stores))}
    assert [stores[0].settings.get(str(name)) for name in range(rounds)] == [everyone] * rounds
    for store in stores:
        store.database.close()


def test_a_change_that_fails_leaves_the_setting_as_it_was(store: JobStore) -> None:
    def fail(_value: object) -> object:
        raise InvalidRequest

    with pytest.raises(InvalidRequest):
        store.settings.change("mode", "real", fail)
    assert store.settings.get("mode") is None
    store.settings.change("mode", "real", lambda value: value * 2)
    with pytest.raises(InvalidRequest):
        store.settings.change("mode", "real", fail)
    assert store.settings.get("mode") == "realreal"
