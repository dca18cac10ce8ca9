"""Settings that change while the service runs, on SQLite and on PostgreSQL."""

import threading
from concurrent.futures import ThreadPoolExecutor

from deployments.jobs.store import JobStore


def test_a_setting_without_a_value_has_its_default(store: JobStore) -> None:
    assert store.settings.get("mode") is None
    assert store.settings.get("mode", "real") == "real"


def test_a_stored_setting_is_read_by_a_later_process(store: JobStore, database_url: str) -> None:
    store.settings.put("limits", {"vram_gb": 12.5, "offload": True})
    store.settings.put("paused", False)
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
            stores[number].settings.put(name, number)

        with ThreadPoolExecutor(len(stores)) as threads:
            list(threads.map(write, range(len(stores))))  # raises the error of a writer
        assert stores[0].settings.get(name) in range(len(stores))
        stores[0].settings.put(name, "last")
        assert stores[-1].settings.get(name) == "last"
    for store in stores:
        store.database.close()
