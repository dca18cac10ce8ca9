"""Services that a benchmark starts as processes of their own, on a free port and with a folder of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

ROOT = Path(__file__).parent.parent.parent
_ENOUGH = {"requests_per_minute": 1_000_000, "open_sockets": 1000, "pending_jobs": None, "pending_jobs_overall": None}
"""Limits that no benchmark meets: a single address sends all of its requests."""
_START_SECONDS = 120
_STOP_SECONDS = 60
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class RunningService:
    """A service that is ready."""

    url: str
    data_dir: Path
    start_seconds: float
    """Seconds from the start of the process to the first successful answer."""
    process: "subprocess.Popen[bytes]"

    def processes(self) -> list[psutil.Process]:
        """Returns all processes of the service."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


@contextmanager
def running_service(folder: Path, others: Sequence[Mapping[str, Any]] = (), /, **args: Any) -> Iterator[RunningService]:
    """Runs `wan22 serve` with the project's config while the context is open.

    Args:
        folder: the place of the config and the data folder.
        others: further applications for the same Ray Serve instance, in the form of the config.
        args: values that replace those of the config's `args:`.
    """
    port = _free_port()
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["applications"][0]["args"] |= {"limits": _ENOUGH} | args | {"data_dir": str(folder / "data")}
    config["applications"] += [dict(other) for other in others]
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [_program("wan22"), "serve", "--port", str(port), "--config", str(path)]
    with _running(command, f"http://127.0.0.1:{port}", "/readyz", folder, _python_path()) as service:
        yield service


@contextmanager
def running_bare_application(folder: Path, application: str = "bare_application") -> Iterator[RunningService]:
    """Runs `serve run`, without this project's settings of Ray, with a trivial application while the context is open.

    Args:
        folder: the place of its config.
        application: name of the module of `benchmarks.support` that has the application.
    """
    port = _free_port()
    config = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [{"name": "bare", "route_prefix": "/", "import_path": f"benchmarks.support.{application}:app"}],
    }
    path = folder / "bare_config.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [_program("serve"), "run", str(path)]
    # On a busy machine Serve's proxy takes longer to start than Serve's default of 5 s.
    environment = _python_path() | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
    with _running(command, f"http://127.0.0.1:{port}", "/", folder, environment) as service:
        yield service


@contextmanager
def _running(
    command: Sequence[str], url: str, path: str, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[RunningService]:
    """Starts a process, waits until `path` answers with success, and interrupts the process at the end."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | dict(environment or {})
    )
    try:
        while not _answers(url + path):
            if process.poll() is not None or time.perf_counter() - began > _START_SECONDS:
                raise SystemExit(f"{' '.join(command)} did not become ready. Run the command to see its errors.")
            time.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - began
        yield RunningService(url=url, data_dir=folder / "data", start_seconds=seconds, process=process)
    finally:
        if process.poll() is None:
            started = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            process.wait(_STOP_SECONDS)
            _, alive = psutil.wait_procs(started, timeout=_STOP_SECONDS)
            for left in alive:
                left.kill()


def _python_path() -> dict[str, str]:
    """Returns the variable by which the applications of the benchmarks are found."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False
