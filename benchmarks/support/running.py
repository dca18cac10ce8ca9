"""A service of a benchmark's own: a process on a free port, with the project's config and a folder of its own."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

ROOT = Path(__file__).parent.parent.parent
_START_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class RunningService:
    """It answers."""

    url: str
    data_dir: Path
    start_seconds: float
    process: "subprocess.Popen[bytes]"

    def processes(self) -> list[psutil.Process]:
        """All that belong to it."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


@contextmanager
def running_service(folder: Path, **args: Any) -> Iterator[RunningService]:
    """Starts it for the time of the context.

    Args:
        folder: where its config and its data are.
        args: in place of the config's `args:`.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["applications"][0]["args"] |= args | {"data_dir": str(folder / "data")}
    (folder / "serve_config.yaml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).parent / "wan22"), "serve", "--port", str(port)]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--config", str(folder / "serve_config.yaml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _is_ready(url):
            if process.poll() is not None or time.perf_counter() - began > _START_SECONDS:
                raise SystemExit("The service did not start; try `wan22 serve --verbose`.")
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        yield RunningService(url=url, data_dir=folder / "data", start_seconds=seconds, process=process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False
