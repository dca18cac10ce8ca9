"""A signal stops the service without any message from Ray, and keeps the step of the running job."""

import os
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.service import LONG, WAN22, Service, launch, wait_until


def test_ctrl_c_ends_every_process_silently_and_keeps_the_step_of_the_running_job(tmp_path: Path) -> None:
    service = Service(tmp_path)
    _start_without_logs(service)
    task_id = service.submit(**LONG | {"steps": 30})
    wait_until(lambda: service.task(task_id)["current_step"] >= 3)
    _check_silent_stop(service, signal.SIGINT)
    with sqlite3.connect(service.data_dir / "jobs.db") as database:
        row = database.execute("SELECT state, attempt FROM jobs").fetchone()
    assert row == ("pending", 0)
    assert not list((service.data_dir / "outputs").rglob("*.mp4"))

    _start_without_logs(service)
    task = service.wait_for(task_id, "completed", "failed")
    assert task["result"]["resumed_from_step"] >= 3, "the job resumes from a step that it had reached"
    _check_silent_stop(service, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_ends_every_process_silently(number: signal.Signals, tmp_path: Path) -> None:
    service = Service(tmp_path)
    _launch_without_logs(service)
    wait_until(lambda: len(service.processes()) > 1, seconds=60)
    _check_silent_stop(service, number)


def _launch_without_logs(service: Service) -> None:
    """Starts the command as a shell does, in a process group of its own."""
    command = [WAN22, "serve", "--config", str(service.config), "--port", str(service.port)]
    with service.log.open("wb") as log:
        service.process = launch(
            [*command, "--data-dir", str(service.data_dir)], stdout=log, stderr=log, start_new_session=True
        )


def _start_without_logs(service: Service) -> None:
    _launch_without_logs(service)
    wait_until(lambda: "Ready: " in service.log.read_text(), seconds=120)


def _check_silent_stop(service: Service, number: signal.Signals) -> None:
    """Stops the service and reads what the command prints. Ctrl-C in a terminal reaches the whole process group."""
    assert service.process is not None
    printed = service.log.read_text()
    processes = service.processes()
    (os.killpg if number is signal.SIGINT else os.kill)(service.process.pid, number)
    assert service.process.wait(60) == 0, service.log.read_text()
    assert service.log.read_text().removeprefix(printed) == "Stopped.\n"
    assert [process for process in processes if process.is_running()] == []
