"""Migrations of a database that has jobs already."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import delete, text, update

from deployments.jobs import migrations
from deployments.jobs.job import JobState, Priority
from deployments.jobs.schema import job_counts, jobs
from deployments.jobs.store import JobStore
from deployments.jobs.videos import VideoFilter
from tests.jobs import make_job


@pytest.fixture
def older(store: JobStore) -> JobStore:
    """A database from before the maintained counts, with jobs."""
    for priority in (Priority.NORMAL, Priority.NORMAL, Priority.HIGH):
        store.writer.submit(make_job(priority=priority, owner="alice" if priority else ""))
    done = store.writer.submit(make_job()).id
    store.runner.claim(done, lease_seconds=10)
    output = {"folder": "x", "file_size_bytes": 12}
    store.runner.complete(done, 1, output=output, result={"generation_time_seconds": 1.0})
    with store.database.writing() as connection:
        connection.execute(update(jobs).values(rank=None))
        connection.execute(delete(job_counts))
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with store.database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
        connection.commit()
    return store


def test_jobs_of_an_older_version_are_counted_and_have_their_places(older: JobStore) -> None:
    migrations.upgrade(older.database.engine)
    first, second, high, done = older.reader.page(newest_first=False)
    assert older.queue.page().positions == {high.id: 1, first.id: 2, second.id: 3}
    assert (older.reader.count()[JobState.PENDING], older.reader.count()[JobState.COMPLETED]) == (3, 1)
    assert older.reader.output_bytes() == 12
    assert older.reader.count(owner="alice") == dict.fromkeys(JobState, 0) | {JobState.PENDING: 1}
    assert older.reader.output_bytes(owner="") == 12
    assert older.videos.page(VideoFilter(query="RED circle"))[1].count == 1
    assert (done.favorite, done.tags, done.deletion_due_at) == (False, [], None)
    assert [job.queue_order for job in (first, second, high, done)] == [1, 2, 3, 4]
    with older.database.reading() as connection:
        assert connection.execute(text("SELECT hidden FROM jobs")).scalars().all() == [False] * 4
