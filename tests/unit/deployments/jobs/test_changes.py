"""The signal by which a reader notices writes."""

from deployments.jobs.store import JobStore
from tests.jobs import make_job


def test_every_commit_is_noticed(store: JobStore) -> None:
    signal = store.database.watch()
    assert signal.changed(), "the first call always reports a change"
    for _ in range(3):
        store.writer.submit(make_job())
        assert signal.changed()


def test_sqlite_is_quiet_while_nobody_writes(store: JobStore) -> None:
    signal = store.database.watch()
    signal.changed()
    store.reader.page()
    assert signal.changed() == (store.database.engine.dialect.name != "sqlite")
