"""Measures what hostile clients cost others: the time of the health check, and the memory of the ingress.

Each attack runs in a process of its own, against a service that generates nothing meanwhile.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.attacks import ATTACKS, MIXED, attacking
from benchmarks.support.reporting import Row, parse_arguments, report
from benchmarks.support.running import RunningService, running_service
from wan22_bridge.builtin import FAMILY, ensure_tiny_model

SMALL = {"prompt": "a red circle", "model_type": "tiny-t2v", "num_frames": 5, "resolution": "64x64", "steps": 1}
LARGE_VIDEO_BYTES = 50_000_000
PROBES_PER_SECOND = 50
TARGET_RATIO, TARGET_MB, TARGET_GROWTH = 3.0, 600.0, 1.05
_HEALTH_PATH = "/healthz"
_BEGIN_SECONDS = 5
"""Time in which an attack begins, before the measurement."""
_END_SECONDS = 5
"""Time in which the service ends the connections of an attack."""
_PROBE_TIMEOUT = 10.0


def main() -> None:
    """Runs all attacks on one service, and reports the rows."""
    arguments = parse_arguments("Measure the health check and the memory of the service while clients attack it.")
    attack_seconds, memory_seconds = (10, 60) if arguments.quick else (30, 600)
    with tempfile.TemporaryDirectory(prefix="wan22-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        for member in FAMILY:
            ensure_tiny_model(folder / "data" / "models", member)
        service = stack.enter_context(running_service(folder))
        client = stack.enter_context(httpx.Client(base_url=service.url, timeout=60))
        task_id = _make_large_video(service, client)
        rows = _measure_memory(service, f"/api/v1/generation/{task_id}", memory_seconds)
        rows += _measure_health(service, f"/api/v1/outputs/{task_id}/video", attack_seconds)
    report(rows, arguments.json)


def _make_large_video(service: RunningService, client: httpx.Client) -> str:
    """Runs a job, makes its file large, and returns the job's id."""
    task_id = str(client.post("/api/v1/generation/submit", json=SMALL).raise_for_status().json()["task_id"])
    while (task := client.get(f"/api/v1/generation/{task_id}").json())["status"] in ("pending", "processing"):
        time.sleep(0.5)
    assert task["status"] == "completed", task["error"]
    [file] = (service.data_dir / "outputs" / task_id).rglob("video.mp4")
    with file.open("r+b") as stream:
        stream.truncate(LARGE_VIDEO_BYTES)
    return task_id


def _measure_memory(service: RunningService, path: str, seconds: int) -> list[Row]:
    """Measures the memory of the ingress each second, while clients do what they may and what they may not."""
    ingress = _find_ingress(service)
    sizes: list[float] = []
    with attacking(MIXED, service.url, path):
        for _ in range(seconds):
            time.sleep(1)
            sizes.append(ingress.memory_info().rss / 1e6)
    fifth = seconds // 5
    growth = statistics.median(sizes[-fifth:]) / statistics.median(sizes[fifth : 2 * fifth])
    during = f"{seconds} s of {MIXED}"
    return [
        Row(f"ingress memory, largest in {during}", max(sizes), "MB", TARGET_MB),
        Row(f"ingress memory, last fifth / second fifth of {during}", growth, "×", TARGET_GROWTH),
    ]


def _measure_health(service: RunningService, video_path: str, seconds: int) -> list[Row]:
    """Compares the health check under each attack with the one of a service at rest."""
    ingress = _find_ingress(service)
    asyncio.run(_probe(service.url, 2))  # loads what the first requests load
    idle = max(_p99(asyncio.run(_probe(service.url, seconds))), 0.1)
    rows = [Row("health check at rest: p99", idle, "ms")]
    largest = 0.0
    for name in ATTACKS:
        if name == MIXED:
            continue
        with attacking(name, service.url, video_path):
            time.sleep(_BEGIN_SECONDS)
            times = asyncio.run(_probe(service.url, seconds))
            largest = max(largest, ingress.memory_info().rss / 1e6)
        rows += [
            Row(f"health check during {name}: p99", _p99(times), "ms"),
            Row(f"health check during {name}: p99 / at rest", _p99(times) / idle, "×", TARGET_RATIO),
        ]
        time.sleep(_END_SECONDS)
    return [*rows, Row("ingress memory, largest during these attacks", largest, "MB", TARGET_MB)]


async def _probe(url: str, seconds: int) -> list[float]:
    """Returns the milliseconds of health checks at a steady rate, each over a connection of its own.

    A check without a good response counts with the time limit.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()

    async def check() -> float:
        began = loop.time()
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(f"GET {_HEALTH_PATH} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
                response = await reader.read(-1)
                writer.close()
        except (OSError, TimeoutError):
            response = b""
        return 1000 * (loop.time() - began if response.startswith(b"HTTP/1.1 200") else _PROBE_TIMEOUT)

    due, checks = loop.time(), []
    for _ in range(seconds * PROBES_PER_SECOND):
        checks.append(asyncio.create_task(check()))
        due += 1 / PROBES_PER_SECOND
        await asyncio.sleep(due - loop.time())
    return list(await asyncio.gather(*checks))


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _find_ingress(service: RunningService) -> psutil.Process:
    """Returns the process of the ingress replica."""
    [found] = [
        process for process in service.processes() if process.cmdline()[:1] == ["ray::ServeReplica:wan22:ingress"]
    ]
    return found


if __name__ == "__main__":
    main()
