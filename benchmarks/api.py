"""Measures the cost of the API's answers, against an empty FastAPI handler.

The empty handler runs twice: on plain Ray Serve, which `serve run` starts with Serve's own HTTP proxy and which the
targets compare with; and beside the service, behind the same HAProxy.

CPU times are those of the HTTP proxies and of all replicas, less what the idle processes use. They do not depend much
on what else the machine does, as wall times would.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.polling import polling
from benchmarks.support.reporting import Row, parse_arguments, report
from benchmarks.support.running import RunningService, running_bare_application, running_service
from benchmarks.support.sockets import follow_with_sockets
from benchmarks.support.stored_jobs import store_copies
from deployments.jobs.job import JobState
from deployments.jobs.store import JobStore
from wan22_bridge.builtin import FAMILY, ensure_tiny_model

STORED_JOBS = 100_000
PAGE = 20
SOCKETS = 500
POLLING_CLIENTS, POLLS_PER_SECOND = 10, 5
SMALL: dict[str, Any] = {"prompt": "a red circle", "model_type": "tiny-t2v", "num_frames": 5, "resolution": "64x64"}
LONG: dict[str, Any] = SMALL | {"num_frames": 33, "resolution": "128x128", "steps": 40, "seed": 1}
MOCK: dict[str, Any] = SMALL | {"num_frames": 81, "resolution": "832x480"}
TARGETS = {"read a job": 1.5, f"read a queue page of {PAGE}": 2.0, "submit": 4.0}
EMPTY, PLAIN = "empty handler", "empty handler on plain Ray Serve"
_COUNTED = ("ray::ProxyActor", "ray::HAProxyManager", "ray::ServeReplica")
_EMPTY_APPLICATION = {
    "name": "empty",
    "route_prefix": "/empty",
    "import_path": "benchmarks.support.empty_application:app",
}


def main() -> None:
    """Runs all measurements on one service, and reports the rows."""
    arguments = parse_arguments("Measure the cost of the API's answers.")
    rounds, requests, generations = (4, 60, 2) if arguments.quick else (10, 100, 5)
    with tempfile.TemporaryDirectory(prefix="wan22-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        for member in FAMILY:
            ensure_tiny_model(folder / "data" / "models", member)
        service = stack.enter_context(running_service(folder, [_EMPTY_APPLICATION]))
        client = stack.enter_context(httpx.Client(base_url=service.url, timeout=60))
        bench = _Bench(service, client, rounds, requests)
        first = bench.run_job(SMALL)
        rows = _measure_mock(bench)
        rows += _measure_polling(bench, generations)
        rows += _measure_sockets(bench)
        plain = stack.enter_context(running_bare_application(folder, "empty_application"))
        rows += _measure_answers(bench, first["id"], plain)
    report(rows, arguments.json)


class _Bench:
    def __init__(self, service: RunningService, client: httpx.Client, rounds: int, requests: int) -> None:
        self.service, self.client = service, client
        self._rounds, self._requests = rounds, requests
        self.store = JobStore(f"sqlite:///{service.data_dir}/jobs.db", migrate=False)

    def ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """Sends a request and returns the JSON of its response."""
        answer: dict[str, Any] = self.client.request(method, path, **body).raise_for_status().json()
        return answer

    def run_job(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Runs a job to its end, with few polls of its own, and returns it."""
        task_id = self.ask("POST", "/api/v1/generation/submit", json=dict(fields))["task_id"]
        while (task := self.ask("GET", f"/api/v1/generation/{task_id}"))["status"] in ("pending", "processing"):
            time.sleep(0.5)
        assert task["status"] == "completed", task["error"]
        return task

    def cpu_milliseconds(self, actions: Mapping[str, tuple[RunningService, Callable[[], object]]]) -> dict[str, float]:
        """Returns the CPU milliseconds of each action, the median of the rounds. The actions alternate.

        Args:
            actions: what is measured, and on which service.
        """
        for _, action in actions.values():
            for _ in range(10):
                action()
        idle = {service.url: _idle_share(service) for service, _ in actions.values()}
        measured: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(self._rounds):
            for name, (service, action) in actions.items():
                cpu, began = _cpu_seconds(service), time.monotonic()
                for _ in range(self._requests):
                    action()
                used = _cpu_seconds(service) - cpu - idle[service.url] * (time.monotonic() - began)
                measured[name].append(1000 * used / self._requests)
        return {name: statistics.median(values) for name, values in measured.items()}


def _idle_share(service: RunningService) -> float:
    """Returns the CPU seconds that the processes of an idle service use in a second."""
    time.sleep(3)
    cpu, began = _cpu_seconds(service), time.monotonic()
    time.sleep(5)
    return (_cpu_seconds(service) - cpu) / (time.monotonic() - began)


def _cpu_seconds(service: RunningService) -> float:
    """Returns the CPU time of the HTTP proxies and of all replicas so far."""
    total = 0.0
    for process in service.processes():
        try:
            if process.name() == "haproxy" or process.cmdline()[0].startswith(_COUNTED):
                times = process.cpu_times()
                total += times.user + times.system
        except (psutil.Error, IndexError):
            continue
    return total


def _measure_answers(bench: _Bench, template: str, plain: RunningService) -> list[Row]:
    """Compares the answers with the empty handlers, and with very many jobs in the store.

    The queue is paused, so that no job begins meanwhile.
    """
    bench.ask("POST", "/api/v1/queue/pause")
    waiting = [bench.ask("POST", "/api/v1/generation/submit", json=SMALL)["task_id"] for _ in range(PAGE)]
    few = bench.cpu_milliseconds(_actions(bench, waiting, plain))
    rows = [Row(f"{name}: CPU time", few[name], "ms") for name in (PLAIN, EMPTY)]
    for name, target in TARGETS.items():
        rows.append(Row(f"{name}: CPU time", few[name], "ms"))
        rows.append(Row(f"{name} / {PLAIN}, CPU time", few[name] / few[PLAIN], "×", target))
        rows.append(Row(f"{name} / {EMPTY} behind the same HAProxy, CPU time", few[name] / few[EMPTY], "×"))
    for state, copied in ((JobState.PENDING, waiting[0]), (JobState.COMPLETED, template)):
        copies = store_copies(bench.store, copied, STORED_JOBS, state)
        many = bench.cpu_milliseconds(_actions(bench, copies, plain))
        # The ratio of ratios takes out what has changed in the machine between the two measurements.
        change = few[EMPTY] / many[EMPTY]
        for name in TARGETS:
            ratio = change * many[name] / few[name]
            rows.append(Row(f"{name}: with {STORED_JOBS:,} more {state} jobs / without", ratio, "×", 1.2))
    return rows


def _actions(
    bench: _Bench, task_ids: list[str], plain: RunningService
) -> dict[str, tuple[RunningService, Callable[[], object]]]:
    read_id = task_ids[len(task_ids) // 2]
    read, page, submit = TARGETS
    actions: dict[str, Callable[[], object]] = {
        EMPTY: lambda: bench.ask("GET", "/empty/"),
        read: lambda: bench.ask("GET", f"/api/v1/generation/{read_id}"),
        page: lambda: bench.ask("GET", "/api/v1/queue", params={"limit": PAGE}),
        submit: lambda: bench.ask("POST", "/api/v1/generation/submit", json=SMALL),
    }
    measured = {name: (bench.service, action) for name, action in actions.items()}
    return {PLAIN: (plain, lambda: bench.ask("GET", plain.url + "/")), **measured}


def _measure_mock(bench: _Bench) -> list[Row]:
    """Measures a mock job, whose length a client sees."""
    bench.ask("PUT", "/api/v1/system/generation-mode", json={"mode": "mock"})
    task = bench.run_job(MOCK)
    bench.ask("PUT", "/api/v1/system/generation-mode", json={"mode": "real"})
    begun, ended = (datetime.fromisoformat(task[name]) for name in ("created_at", "completed_at"))
    return [Row("a mock job of 832x480 and 81 frames", (ended - begun).total_seconds(), "s", 1.0)]


def _measure_polling(bench: _Bench, generations: int) -> list[Row]:
    """Compares generations with and without clients that poll, alternately.

    Clients that poll the empty handler show how much of the slowdown is Ray Serve's own.
    """
    clients = f"{POLLING_CLIENTS} clients at {POLLS_PER_SECOND} Hz"
    job = bench.run_job(LONG)["id"]
    paths = {"a job": f"/api/v1/generation/{job}", f"the {EMPTY}": "/empty/"}
    alone: list[float] = []
    polled: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(generations):
        alone.append(bench.run_job(LONG)["result"]["generation_time_seconds"])
        for name, path in paths.items():
            with polling(bench.service.url + path, clients=POLLING_CLIENTS, per_second=POLLS_PER_SECOND):
                polled[name].append(bench.run_job(LONG)["result"]["generation_time_seconds"])
    rows = [Row("a CPU generation", statistics.median(alone), "s")]
    for name, seconds in polled.items():
        ratio = statistics.median(busy / quiet for busy, quiet in zip(seconds, alone, strict=True))
        target = 1.10 if name == "a job" else None
        rows.append(Row(f"a CPU generation with {clients} that poll {name} / without", ratio, "×", target))
    return rows


def _measure_sockets(bench: _Bench) -> list[Row]:
    """Measures the delay between a change of a job and its message on each of many sockets."""
    task_id, received = asyncio.run(follow_with_sockets(bench.service.url, LONG, SOCKETS))
    written = [event.created_at for event in bench.store.events.after(0, job_id=task_id)]
    complete = sum(len(times) == len(written) for times in received)
    delays = [
        1000 * (at - event)
        for times in received
        if len(times) == len(written)
        for event, at in zip(written, times, strict=True)
    ]
    return [
        Row(f"sockets of {SOCKETS} that received each of {len(written)} messages", complete, "", least=SOCKETS),
        Row("delay of a message, median", statistics.median(delays), "ms"),
        Row("delay of a message, p99", statistics.quantiles(delays, n=100)[98], "ms", 500.0),
        Row("delay of a message, longest", max(delays), "ms"),
    ]


if __name__ == "__main__":
    main()
