"""A failed start is reported in one sentence, and so is the end of one of Ray's own processes."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayError

from serve_app.running import service
from serve_app.running.interruption import Interruption


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SystemExit(), "Ray Serve could not start. Start the service with --verbose to see why."),
        (RayError("no GCS"), "Ray Serve could not start: no GCS. Start the service with --verbose to see why."),
    ],
)
def test_a_failed_start_is_reported(error: BaseException, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def deploy(_config: dict[str, Any]) -> None:
        raise error

    monkeypatch.setattr(service, "_start_ray", lambda *_: "localhost:8265")
    monkeypatch.setattr(service, "_deploy", deploy)
    monkeypatch.setattr(service, "stop_serve", lambda: None)
    monkeypatch.setattr(service, "stop_ray", lambda: None)
    monkeypatch.setattr(Interruption, "ignore", lambda _: None)
    said: list[str] = []
    assert service.run({}, Interruption(), verbose=False, say=lambda _: None, say_error=said.append) == 1
    assert said == [message]


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_service_without_ray_ends(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.copy(str(shutil.which("sleep")), tmp_path / name)
    started = subprocess.Popen([program, "1000"])
    monkeypatch.setattr(service, "_start", lambda *_: None)
    monkeypatch.setattr(service, "_WATCH_SECONDS", 0.1)
    monkeypatch.setattr(service, "kill_ray", started.kill)
    monkeypatch.setattr(service, "stop_serve", lambda: None)
    monkeypatch.setattr(service, "stop_ray", lambda: None)
    interruption = Interruption()
    monkeypatch.setattr(interruption, "ignore", lambda: None)
    waits = [started.kill, lambda: None, interruption.request]
    wait = interruption.wait

    def wait_and_kill(seconds: float | None = None) -> bool:
        waits.pop(0)()
        return wait(seconds)

    monkeypatch.setattr(interruption, "wait", wait_and_kill)
    said: list[str] = []
    assert service.run({}, interruption, verbose=False, say=lambda _: None, say_error=said.append) == 1
    assert said == [f"Ray's process {name} has ended, so the service stops. Start it again: its jobs continue."]
    started.wait()
