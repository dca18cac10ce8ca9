"""What a service lives through: its controller's death, a database that does not answer, a second dispatcher."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.service import LONG, Service, running_service, wait_until

AWAY_SECONDS = 20


def _begun(service: Service, task_id: str, step: int = 3) -> bool:
    return bool(service.task(task_id)["current_step"] >= step)


def test_a_job_goes_on_without_the_controller_and_while_the_database_is_locked(tmp_path: Path) -> None:
    with running_service(tmp_path, lease_seconds=60) as service:
        task_id = service.submit(**LONG | {"steps": 25})
        wait_until(lambda: _begun(service, task_id))
        [controller] = [found for found in service.processes() if "ServeController" in " ".join(found.cmdline())]
        controller.kill()
        assert service.task(task_id)["status"] == "processing", "who answers HTTP needs no controller"
        assert service.finished()["attempt"] == 1
        task = service.wait_for(task_id, "completed", "failed")
        assert (task["status"], task["attempt"]) == ("completed", 1)

        task_id = service.submit(**LONG | {"steps": 25})
        wait_until(lambda: _begun(service, task_id))
        with sqlite3.connect(service.data_dir / "jobs.db", isolation_level=None) as database:
            database.execute("BEGIN EXCLUSIVE")
            time.sleep(AWAY_SECONDS)  # what is to be lived through
            database.execute("ROLLBACK")
        waiting = service.submit()
        task = service.wait_for(task_id, "completed", "failed")
        assert (task["status"], task["attempt"]) == ("completed", 1)
        assert service.wait_for(waiting, "completed", "failed")["status"] == "completed"


def test_two_dispatchers_on_one_store_run_each_job_once(tmp_path: Path) -> None:
    """Two whole services, as while one takes the other's place."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    database = f"sqlite:///{tmp_path}/jobs.db"
    with running_service(one, database_url=database) as first, running_service(other, database_url=database) as second:
        with ThreadPoolExecutor() as threads:
            services = [first, second] * 4
            tasks = list(threads.map(lambda service: service.submit(), services))
        found = [first.wait_for(task_id, "completed", "failed") for task_id in tasks]
        assert [(task["status"], task["attempt"]) for task in found] == [("completed", 1)] * len(tasks)
        logs = [service.log.read_text() for service in (first, second)]
    claims = [[task_id for task_id in tasks if f"Job {task_id} claimed" in log] for log in logs]
    assert sorted(claims[0] + claims[1]) == sorted(tasks), "each was claimed once, by one of them"
