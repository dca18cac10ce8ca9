"""Jobs survive the death of any process, and a stop of the service."""

import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.support.aftermath import (
    digest,
    find_duplicated,
    find_inconsistent,
    find_lost,
    find_videos,
    list_jobs,
)
from benchmarks.support.killing import ENDING, REPLACED, Killer
from tests.service import LONG, WAN22, Service, environment, wait_until
from wan22_bridge.media.writer import read_video_info


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests that kill it, or parts of it, and leave it running."""
    generator = {"checkpoint_interval_seconds": 0.5}
    service = Service(tmp_path_factory.mktemp("restarted"), lease_seconds=3, max_attempts=10, generator=generator)
    try:
        service.start(verbose=False)
        yield service
    finally:
        service.stop()


def _begun(service: Service, task_id: str, attempt: int = 1) -> bool:
    task = service.task(task_id)
    return bool(task["attempt"] == attempt and task["current_step"] >= 3)


def test_ctrl_c_ends_every_process_silently_and_keeps_the_step_of_the_running_job(service: Service) -> None:
    task_id = service.submit(**LONG | {"steps": 30})
    wait_until(lambda: _begun(service, task_id))
    service.check_silent_stop(signal.SIGINT)
    with sqlite3.connect(service.data_dir / "jobs.db") as database:
        row = database.execute("SELECT state, attempt FROM jobs").fetchone()
    assert row == ("pending", 0)
    assert not list((service.data_dir / "outputs").rglob("*.mp4"))

    service.start(verbose=False)
    task = service.wait_for(task_id, "completed", "failed")
    assert task["result"]["resumed_from_step"] >= 3, "the job resumes from a step that it had reached"


def test_a_killed_service_finishes_its_jobs_after_a_restart(service: Service) -> None:
    running = service.submit(**LONG | {"steps": 30}, seed=5)
    waiting = service.submit(seed=6)
    wait_until(lambda: _begun(service, running))
    service.kill()

    service.start(verbose=False)
    task = service.wait_for(running, "completed", "failed", "cancelled")
    assert (task["status"], task["attempt"], task["seed"]) == ("completed", 2, 5)
    assert service.wait_for(waiting, "completed", "failed")["attempt"] == 1
    folders = list((service.data_dir / "outputs" / running).iterdir())
    assert len(folders) == 1, "the killed attempt leaves no files"
    assert read_video_info(folders[0] / "video.mp4").num_frames == 33


def test_another_generator_resumes_the_job_of_a_killed_one_with_the_same_video(service: Service) -> None:
    task_id = service.submit(**LONG | {"steps": 30}, seed=9)
    snapshot = service.data_dir / "outputs" / task_id / "snapshot.safetensors"
    wait_until(snapshot.exists)
    kept = service.task(task_id)["current_step"]
    _kill_replica(service, "generator")
    task = service.wait_for(task_id, "completed", "failed")
    assert (task["status"], task["attempt"]) == ("completed", 2)
    assert task["result"]["resumed_from_step"] >= max(1, kept - 1)
    assert not snapshot.exists()

    whole = service.finished(**LONG | {"steps": 30}, seed=9)
    assert whole["result"]["resumed_from_step"] == 0
    assert _video(service, task_id) == _video(service, whole["id"])


def _video(service: Service, task_id: str) -> bytes:
    with service.client() as client:
        return client.get(service.task(task_id)["output_path"]).content


def test_generate_keeps_waiting_while_every_replica_is_killed(service: Service, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    command = [WAN22, "generate", "long", "-o", str(out), "--size", "192x192", "--frames", "33", "--steps", "40"]
    waiting = subprocess.Popen(command, env=environment(WAN22_URL=service.url), stderr=subprocess.PIPE, text=True)
    task_id = str(wait_until(lambda: _current(service)))
    wait_until(lambda: _begun(service, task_id))

    _kill_replica(service, "ingress")
    wait_until(lambda: _answers(service))
    assert service.task(task_id)["attempt"] == 1

    _kill_replica(service, "dispatcher")
    wait_until(lambda: _begun(service, task_id, attempt=2), seconds=90)
    _kill_replica(service, "generator")
    _, said = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, said
    task = service.task(task_id)
    assert (task["status"], task["attempt"]) == ("completed", 3)
    assert read_video_info(out).num_frames == 33
    assert len(list((service.data_dir / "outputs" / task_id).iterdir())) == 1


def test_no_job_is_lost_or_made_twice_while_processes_are_killed_at_random(service: Service) -> None:
    """benchmarks/soak.py kills more of them."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    fields: dict[str, Any] = {"num_frames": 9, "steps": 12, "seed": 3}
    expected = digest(_video(service, service.finished(**fields)["id"]))
    before = list_jobs(service.data_dir)
    tasks = [service.submit(**fields) for _ in range(4)]
    killer, last = Killer(seed, list(REPLACED)), Killer(seed, list(ENDING))
    for _ in REPLACED:
        time.sleep(killer.wait_seconds(1.0))  # the random moment
        killer.kill(service, most=1)
    assert killer.kills.total() >= 7, "a decoder and a new generator may not run yet"
    assert last.kill(service, most=1)
    assert service.process is not None
    assert service.process.wait(60) == 1
    assert "has ended, so the service stops" in service.log.read_text()

    service.start(verbose=False)
    wait_until(lambda: find_lost(service.data_dir, tasks) == [], seconds=240)
    assert find_duplicated(service.data_dir, [*before, *tasks]) == []
    assert find_inconsistent(service.data_dir) == []
    for task_id in tasks:
        assert service.task(task_id)["status"] == "completed"
        assert [digest(path) for path in find_videos(service.data_dir, task_id)] == [expected]


def test_sigterm_ends_every_process_silently(service: Service) -> None:
    service.check_silent_stop(signal.SIGTERM)


def _current(service: Service) -> Any:
    """Returns the id of the running job."""
    with service.client() as client:
        task = client.get("/api/v1/queue").json()["current_task"]
    return task and task["id"]


def _answers(service: Service) -> bool:
    try:
        return httpx.get(f"{service.url}/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False


def _kill_replica(service: Service, deployment: str) -> None:
    """Kills the only replica of a deployment."""
    found = service.replicas(deployment)
    assert len(found) == 1, f"{len(found)} replicas of {deployment}"
    found[0].kill()
