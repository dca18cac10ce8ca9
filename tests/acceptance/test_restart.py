"""Nothing is lost: not by a kill, not by Ctrl-C."""

import sqlite3
from pathlib import Path

import psutil

from tests.service import LONG, Service, running_service, wait_until
from wan22_bridge.media import read_video_info


def _begun(service: Service, task_id: str) -> bool:
    return bool(service.task(task_id)["current_step"] >= 3)


def test_a_killed_service_finishes_its_jobs_after_a_restart(tmp_path: Path) -> None:
    with running_service(tmp_path, lease_seconds=5) as service:
        running = service.submit(**LONG | {"steps": 60}, seed=5)
        waiting = service.submit(seed=6)
        wait_until(lambda: _begun(service, running))
        service.kill()

        service.start()
        task = service.wait_for(running, "completed", "failed", "cancelled")
        assert (task["status"], task["attempt"], task["seed"]) == ("completed", 2, 5)
        assert service.wait_for(waiting, "completed", "failed")["attempt"] == 1
        folders = list((service.data_dir / "outputs" / running).iterdir())
        assert len(folders) == 1, "the killed attempt left files behind"
        assert read_video_info(folders[0] / "video.mp4").num_frames == 17


def test_ctrl_c_ends_every_process_at_once_and_gives_the_running_job_back(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        task_id = service.submit(**LONG)
        wait_until(lambda: _begun(service, task_id))
        processes = service.processes()
        assert service.interrupt() == 0
        assert [process for process in processes if process.is_running()] == []
        with sqlite3.connect(service.data_dir / "jobs.db") as database:
            row = database.execute("SELECT state, attempt FROM jobs").fetchone()
        assert row == ("pending", 0)
        assert not list((service.data_dir / "outputs").rglob("*.mp4"))


def test_a_killed_generator_is_replaced_and_its_job_begun_again(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        task_id = service.submit(**LONG | {"steps": 40})
        wait_until(lambda: _begun(service, task_id))
        [generator] = [
            process for process in service.processes() if _name(process).startswith("ray::ServeReplica:wan22:generator")
        ]
        generator.kill()
        task = service.wait_for(task_id, "completed", "failed")
        assert (task["status"], task["attempt"]) == ("completed", 2)


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
