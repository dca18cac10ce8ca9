"""The registry of live generator replicas."""

import json

from sqlalchemy import insert

from deployments.jobs.database import Database
from deployments.jobs.replica_registry import EXPIRY_SECONDS, LoadedInfo, ReplicaInfo, ReplicaRegistry
from deployments.jobs.schema import replicas
from deployments.jobs.store import JobStore
from tests.unit.conftest import Clock


def info(replica_id: str, job_id: str | None = None) -> ReplicaInfo:
    """Makes the report of a replica with one loaded model."""
    loaded = LoadedInfo(model="tiny-t2v", plan=["bf16"], load_seconds=1.5, vram_mb=12.0)
    return ReplicaInfo(
        id=replica_id, deployment="t2v", node="here", process_id=1, device="CPU", job_id=job_id, models=[loaded]
    )


def test_the_last_report_of_each_live_replica_is_listed(database_url: str, clock: Clock) -> None:
    database = Database(database_url, clock=clock)
    registry = ReplicaRegistry(database)
    registry.report(info("a"))
    clock.now += EXPIRY_SECONDS - 1
    for report in (info("b"), info("b", job_id="video_1")):
        registry.report(report)
    assert registry.all() == [info("a"), info("b", job_id="video_1")]
    clock.now += 2
    assert registry.all() == [info("b", job_id="video_1")], "the first replica is silent for too long"
    registry.remove("b")
    assert registry.all() == []
    database.close()


def test_a_report_of_an_earlier_version_is_read(store: JobStore) -> None:
    data = {
        "id": "a",
        "deployment": "t2v",
        "node": "here",
        "process_id": 1,
        "device": "CPU",
        "job_id": None,
        "models": [{"model": "tiny-t2v", "plan": ["bf16"], "load_seconds": 1.5, "vram_mb": 12.0}],
    }
    with store.database.writing() as connection:
        connection.execute(insert(replicas).values(id="a", data=json.dumps(data), seen_at=store.database.now()))
    assert ReplicaRegistry(store.database).all() == [info("a")]
