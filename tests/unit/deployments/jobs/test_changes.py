"""A reader notices what others have written."""

from deployments.jobs.store import JobStore
from tests.jobs import make_job


def test_every_commit_is_noticed(store: JobStore) -> None:
    signal = store.database.watch()
    assert signal.changed(), "the first look must be taken"
    for _ in range(3):
        store.submit(make_job())
        assert signal.changed()


def test_sqlite_is_quiet_while_nobody_writes(store: JobStore) -> None:
    signal = store.database.watch()
    signal.changed()
    store.page()
    assert signal.changed() == (store.database.engine.dialect.name != "sqlite")
