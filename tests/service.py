"""A real service for tests: `wan22 serve` in its own process, with its own port and folder."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from wan22_bridge.files import locked

ROOT = Path(__file__).parent.parent
WAN22 = str(Path(sys.executable).parent / "wan22")
PROXY = "127.0.0.2"
"""Address of this machine from which the shared service takes requests for a reverse proxy's."""
_START_SECONDS = 120
_STOP_SECONDS = 60
_START_LOCK = Path(tempfile.gettempdir()) / "wan22-test-start.lock"
"""Services of a parallel run start one after the other, because Ray gives up on a start that takes too long."""


def wait_until(probe: Callable[[], Any], *, seconds: float = 60, every: float = 0.1) -> Any:
    """Calls `probe` until it returns a true value, and returns that value. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s; the last answer was {answer!r}"
        time.sleep(every)
    return answer


def free_port() -> int:
    """Returns a port that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def launch(command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Starts a process that may use all cores, also where a parallel run gives the test itself only some of them."""
    process = subprocess.Popen(command, **options)
    os.sched_setaffinity(process.pid, range(os.cpu_count() or 1))
    return process


class Service:
    """A service that a test can start, stop, kill and restart on the same data."""

    def __init__(self, folder: Path, **args: Any) -> None:
        """Writes the project's default config, with `args` in place of the values in its `args:`."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = folder / "data"
        self.log = folder / "serve.log"
        self.config = folder / "serve_config.yaml"
        config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        config["applications"][0]["args"] |= args
        self.config.write_text(yaml.safe_dump(config))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, verbose: bool = True) -> None:
        """Starts the service and waits until it is ready."""
        with locked(_START_LOCK):
            self.launch(verbose=verbose)
            wait_until(self._ready_or_dead, seconds=_START_SECONDS)
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-4000:]

    def launch(self, *, verbose: bool = True) -> None:
        """Starts the command as a shell does, in a process group of its own, and does not wait."""
        command = [WAN22, "serve", "--config", str(self.config), "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), *(["--verbose"] if verbose else [])]
        with self.log.open("ab") as log:
            self.process = launch(command, stdout=log, stderr=log, start_new_session=True)

    def _ready_or_dead(self) -> bool:
        assert self.process is not None
        try:
            return self.process.poll() is not None or _get(f"{self.url}/readyz").is_success
        except httpx.TransportError:
            return False

    def processes(self) -> list[psutil.Process]:
        """Returns all processes of the service."""
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """Returns the replica processes of a deployment, found by the names that Ray gives them."""
        return [found for found in self.processes() if f"ServeReplica:wan22:{deployment}" in _command(found)]

    def interrupt(self) -> int:
        """Sends SIGINT, as Ctrl-C does, and returns the exit status. Kills a service that does not end, and raises."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def check_silent_stop(self, number: signal.Signals) -> None:
        """Stops the service and checks that the command prints one line only and leaves no process.

        SIGINT goes to the whole process group, as Ctrl-C in a terminal does.
        """
        assert self.process is not None
        printed = self.log.read_text()
        processes = self.processes()
        (os.killpg if number is signal.SIGINT else os.kill)(self.process.pid, number)
        assert self.process.wait(_STOP_SECONDS) == 0, self.log.read_text()
        assert self.log.read_text().removeprefix(printed) == "Stopped.\n"
        assert [process for process in processes if process.is_running()] == []

    def stop(self) -> None:
        """Stops the service if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.interrupt()

    def kill(self) -> None:
        """Kills all processes of the service at once with SIGKILL."""
        processes = self.processes()
        for process in processes:
            process.suspend()
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=_STOP_SECONDS)
        assert self.process is not None
        self.process.wait(_STOP_SECONDS)

    def client(self) -> httpx.Client:
        """Returns an HTTP client for the service."""
        return httpx.Client(base_url=self.url, timeout=60, verify=False)

    def submit(self, **fields: Any) -> str:
        """Submits a small job and returns its id."""
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
        """Waits until a job has one of the statuses, and returns the job."""

        def look() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in statuses else None

        task: dict[str, Any] = wait_until(look, seconds=seconds, every=0.2)
        return task

    def finished(self, **fields: Any) -> dict[str, Any]:
        """Submits a small job, waits until it is completed, and returns it. A failed job fails the test."""
        task = self.wait_for(self.submit(**fields), "completed", "failed")
        assert task["status"] == "completed", task["error"]
        return task


def _get(url: str) -> httpx.Response:
    """Sends a GET. Without `verify=False`, httpx would load certificates for each of the many requests of a poll."""
    return httpx.get(url, timeout=5, verify=False)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


SMALL: dict[str, Any] = {"prompt": "a red circle moving right", "resolution": "64x64", "num_frames": 5, "steps": 2}
"""Fields of a job that takes a fraction of a second."""

LONG: dict[str, Any] = {"resolution": "128x128", "num_frames": 33, "steps": 100}
"""Changes to `SMALL` for a job of about 15 seconds, which a test can observe while it runs."""


@contextmanager
def running_service(folder: Path, **args: Any) -> Iterator[Service]:
    """Runs a service while the context is open."""
    service = Service(folder, **args)
    try:
        service.start()
        yield service
    finally:
        service.stop()


def environment(**changes: str) -> dict[str, str]:
    """Returns this process's environment with changes, for a subprocess."""
    return os.environ | changes
