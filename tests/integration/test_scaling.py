"""Generators scale with the jobs, and a preempted job resumes from the step that it had reached."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.page_cache import folder_on_disk, is_cached, is_evicted
from tests.service import LONG, Service, running_service, wait_until

T2V, TI2V = "T2V-A14B", "TI2V-5B"
ONE_OF_EACH = {"shared": False, "loaded_models": 1}


MIDDLING = LONG | {"num_frames": 17}
"""A job whose steps take a tenth of a second each."""


def _is_at_step(service: Service, task_id: str, step: int) -> bool:
    return bool(service.task(task_id)["current_step"] >= step)


def test_a_job_of_higher_priority_preempts_a_running_job_which_resumes_later() -> None:
    scheduling = {"age_seconds": 600, "patience_seconds": 0}
    generator = ONE_OF_EACH | {"preload": ["tiny-t2v"]}
    with folder_on_disk() as folder, running_service(folder, generator=generator, scheduling=scheduling) as service:
        wait_until(lambda: _status(service, "tiny-t2v") == "loaded")
        low = service.submit(**MIDDLING | {"steps": 60}, model_type=T2V, priority="low", seed=3)
        wait_until(lambda: _is_at_step(service, low, 4))

        high = service.submit(model_type=TI2V, priority="high")
        done = service.wait_for(high, "completed", "failed")
        assert (done["status"], done["attempt"]) == ("completed", 1)
        assert service.task(low)["status"] in ("pending", "processing")

        later = service.wait_for(low, "completed", "failed")
        assert (later["status"], later["attempt"]) == ("completed", 1)
        assert later["result"]["resumed_from_step"] >= 4
        _prefetch_next_model(service)


def _status(service: Service, model_id: str) -> str:
    with service.client() as client:
        return str(client.get(f"/api/v1/models/status/{model_id}").json()["status"])


def _prefetch_next_model(service: Service) -> None:
    """Checks that the next job's model is prefetched into the page cache while another job runs."""
    running = service.submit(**MIDDLING | {"steps": 60}, model_type=T2V)
    wait_until(lambda: _is_at_step(service, running, 1))
    [weights] = (service.data_dir / "models").glob("tiny-ti2v*/transformer/*.safetensors")
    wait_until(lambda: is_evicted(weights))
    next_one = service.submit(model_type=TI2V)
    wait_until(lambda: is_cached(weights))
    assert service.task(running)["status"] == "processing"
    for task_id in (running, next_one):
        service.wait_for(task_id, "completed")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with two slots. 0.8 CPUs for each replica leave no room for a third one on two cores."""
    generator = ONE_OF_EACH | {"num_cpus": 0.8}
    with running_service(tmp_path_factory.mktemp("two"), generator=generator, max_running_jobs=2) as running:
        yield running


def test_a_busy_replica_that_serve_stops_hands_its_job_over(service: Service) -> None:
    first = service.submit(**MIDDLING | {"steps": 50}, model_type=T2V)
    wait_until(lambda: _is_at_step(service, first, 1))
    second = service.submit(**MIDDLING | {"steps": 80, "num_frames": 33}, model_type=T2V)
    wait_until(lambda: _is_at_step(service, second, 1))
    assert service.wait_for(first, "completed", "failed")["status"] == "completed"
    left_at = service.task(second)["current_step"]

    other = service.wait_for(service.submit(model_type=TI2V), "completed", "failed")
    assert other["status"] == "completed"
    task = service.wait_for(second, "completed", "failed")
    assert (task["status"], task["attempt"]) == ("completed", 1)
    assert task["result"]["resumed_from_step"] >= left_at
    assert "Serve is stopping its replica" in service.log.read_text()


def test_a_job_completes_although_claiming_the_next_one_fails(service: Service) -> None:
    """A trigger makes the database fail between two claims of one scheduling round."""
    reject = "CREATE TRIGGER reject BEFORE UPDATE ON jobs WHEN NEW.state = 'processing' {} "
    reject += "BEGIN SELECT RAISE(ABORT, 'rejected'); END"
    with closing(sqlite3.connect(service.data_dir / "jobs.db")) as jobs:
        jobs.execute(reject.format(""))
        jobs.commit()
        first, second = service.submit(), service.submit(model_type=TI2V)
        jobs.executescript("DROP TRIGGER reject;" + reject.format("AND NEW.model = 'tiny-ti2v'"))
        assert service.wait_for(first, "completed")["attempt"] == 1
        assert service.task(second)["status"] == "pending"
        jobs.executescript("DROP TRIGGER reject")
        service.wait_for(second, "completed")
