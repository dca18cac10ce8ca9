"""A real service for tests: `wan22 serve` as a process of its own, on its own port and folder."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

ROOT = Path(__file__).parent.parent
WAN22 = str(Path(sys.executable).parent / "wan22")
_START_SECONDS = 120
_STOP_SECONDS = 60


def wait_until(probe: Callable[[], Any], *, seconds: float = 60, every: float = 0.1) -> Any:
    """Asks until the answer is true; fails with the last answer when time is up."""
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s; the last answer was {answer!r}"
        time.sleep(every)
    return answer


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Service:
    """A service that can be started, stopped, killed and started again on the same data."""

    def __init__(self, folder: Path, **args: Any) -> None:
        """Writes the project's own config with other `args:`."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = folder / "data"
        self.log = folder / "serve.log"
        self.config = folder / "serve_config.yaml"
        config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        config["applications"][0]["args"] |= args
        self.config.write_text(yaml.safe_dump(config))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        command = [WAN22, "serve", "--config", str(self.config), "--port", str(self.port), "--verbose"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir)], stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._ready_or_dead, seconds=_START_SECONDS)
        assert self.process.poll() is None, self.log.read_text()[-4000:]

    def _ready_or_dead(self) -> bool:
        assert self.process is not None
        try:
            return self.process.poll() is not None or httpx.get(f"{self.url}/readyz", timeout=5).is_success
        except httpx.TransportError:
            return False

    def processes(self) -> list[psutil.Process]:
        """Everything that belongs to it."""
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """The processes of a deployment, by the names that Ray gives them."""
        return [found for found in self.processes() if f"ServeReplica:wan22:{deployment}" in _command(found)]

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit status once it has ended. One that does not end is killed, and the test fails."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL to everything at once."""
        processes = self.processes()
        for process in processes:
            process.suspend()
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=_STOP_SECONDS)
        assert self.process is not None
        self.process.wait(_STOP_SECONDS)

    def client(self) -> httpx.Client:
        """An HTTP client for it."""
        return httpx.Client(base_url=self.url, timeout=60)

    def submit(self, **fields: Any) -> str:
        """Submits a small job; returns its id."""
        with self.client() as client:
            answer = client.post("/api/v1/generation/submit", json=SMALL | fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """Reads a job."""
        with self.client() as client:
            found: dict[str, Any] = client.get(f"/api/v1/generation/{task_id}").json()
        return found

    def wait_for(self, task_id: str, *statuses: str, seconds: float = 120) -> dict[str, Any]:
        """Waits until a job has one of the statuses."""

        def look() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in statuses else None

        task: dict[str, Any] = wait_until(look, seconds=seconds)
        return task

    def finished(self, **fields: Any) -> dict[str, Any]:
        """Submits a small job and waits for its end, which must be good."""
        task = self.wait_for(self.submit(**fields), "completed", "failed")
        assert task["status"] == "completed", task["error"]
        return task


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


SMALL: dict[str, Any] = {"prompt": "a red circle moving right", "resolution": "64x64", "num_frames": 5, "steps": 2}
"""A job of a fraction of a second."""

LONG: dict[str, Any] = {"resolution": "128x128", "num_frames": 33, "steps": 100}
"""A job of a quarter of a minute, to be caught while it runs."""


@contextmanager
def running_service(folder: Path, **args: Any) -> Iterator[Service]:
    """A service that is there for the time of the context."""
    service = Service(folder, **args)
    try:
        service.start()
        yield service
    finally:
        if service.process is not None and service.process.poll() is None:
            service.interrupt()


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with changes, for a command that is run."""
    return os.environ | changes
