"""Settings that change while the service runs, on SQLite and on PostgreSQL."""

import threading

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


def test_the_last_of_many_values_stays(store: JobStore) -> None:
    threads = [threading.Thread(target=store.settings.put, args=("step", number)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.settings.get("step") in range(8)
    store.settings.put("step", "last")
    assert store.settings.get("step") == "last"
