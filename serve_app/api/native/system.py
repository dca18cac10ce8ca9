"""The native API's routes about the service's machine: health, use, history, hardware and ports."""

import platform
import shutil
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import psutil
import ray
from fastapi import APIRouter, Query, Request
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray._private.worker import get_dashboard_url
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from deployments.jobs.job import JobState
from deployments.jobs.replica_registry import ReplicaInfo
from deployments.system_stats import list_gpus, percent
from serve_app.api.access.callers import NEEDS_ADMIN, NEEDS_READ
from serve_app.api.health import DATABASE_UNAVAILABLE, Problem, find_problems
from serve_app.api.schemas.system import (
    DashboardBody,
    GeneratorHardware,
    GpuBody,
    HardwareBody,
    HealthBody,
    HistoryBody,
    PortsBody,
    ProblemBody,
    QueueHistoryBody,
    StatsBody,
    SystemInfo,
)
from serve_app.api.services import Services, Serving
from wan22_bridge.machine import count_cores, read_ram

router = APIRouter(prefix="/api/v1/system", tags=["system"])

_MAX_HOURS = 168
_CPU_INFO = Path("/proc/cpuinfo")


@router.get("/health", dependencies=[NEEDS_READ])
async def report_health(serving: Serving) -> HealthBody:
    """Returns the health of the service: `healthy`, `degraded` or `unhealthy`.

    The status of the response is 200 whenever the service can answer. `/readyz` responds 503 if no job can run.
    """
    problems = await find_problems(serving)
    return await run_in_threadpool(_describe_health, serving, problems)


@router.get("/stats", dependencies=[NEEDS_READ])
def read_stats(serving: Serving) -> StatsBody:
    """Returns the present use of the CPU, the RAM and the GPUs, and which replica has which model loaded."""
    return StatsBody.of(serving.meter.read())


@router.get("/stats/history", dependencies=[NEEDS_READ])
def read_stats_history(
    serving: Serving, hours: Annotated[float, Query(gt=0, le=_MAX_HOURS, allow_inf_nan=False)] = 24
) -> HistoryBody:
    """Returns the use of the machine over the last hours, up to a week. The dispatcher measures it every minute."""
    return HistoryBody.of(hours, serving.store.stats.read(hours))


@router.get("/queue/history", dependencies=[NEEDS_READ])
def read_queue_history(
    serving: Serving, hours: Annotated[float, Query(gt=0, le=_MAX_HOURS, allow_inf_nan=False)] = 24
) -> QueueHistoryBody:
    """Returns how many jobs waited over the last hours, up to a week, and for how long. All owners are counted.

    The answer may be 30 seconds old.
    """
    return QueueHistoryBody.of(hours, serving.store.waits.read(hours))


@router.get("/hardware/profile", dependencies=[NEEDS_READ])
def read_hardware(serving: Serving) -> HardwareBody:
    """Returns the hardware of the machine, and of the generators that run now."""
    memory, threads, replicas = read_ram(), count_cores(), serving.replicas.all()
    reported = [GeneratorHardware.of(replica) for replica in replicas]
    return HardwareBody(
        cpu_name=_read_cpu_name(),
        cpu_cores=min(psutil.cpu_count(logical=False) or threads, threads),
        cpu_threads=threads,
        ram_total_gb=memory.total_bytes / 1e9,
        ram_available_gb=memory.available_bytes / 1e9,
        platform=platform.platform(),
        python_version=platform.python_version(),
        gpus=[GpuBody.of(gpu) for gpu in list_gpus(replicas)],
        generators=[hardware for hardware in reported if hardware is not None],
    )


@router.get("/ports", dependencies=[NEEDS_READ])
async def read_ports(request: Request) -> PortsBody:
    """Returns the port of the API and of the web page, which are the same."""
    port = _find_port(request)
    return PortsBody(backend_port=port, frontend_port=port, status="running")


@router.get("/dashboard", dependencies=[NEEDS_ADMIN])
def read_dashboard() -> DashboardBody:
    """Returns the address of Ray's dashboard, and whether it asks for a token.

    No response contains the token, because it allows to run programs on the machine.
    """
    address = get_dashboard_url() if ray.is_initialized() else None  # type: ignore[no-untyped-call]
    return DashboardBody(url=f"http://{address}" if address else None, needs_token=is_token_auth_enabled())


def _describe_health(serving: Services, problems: list[Problem]) -> HealthBody:
    levels = {problem.level for problem in problems}
    # Another query would wait for a database that does not answer.
    is_down = any(problem.code == DATABASE_UNAVAILABLE for problem in problems)
    replicas, active, is_connected = ([], 0, False) if is_down else _read_work(serving)
    gpus, memory = list_gpus(replicas), read_ram()
    used, total = (sum(getattr(gpu.use, name) for gpu in gpus) for name in ("vram_used_mb", "vram_total_mb"))
    disk = _read_disk(serving.settings.data_dir)
    return HealthBody(
        status="unhealthy" if "error" in levels else "degraded" if problems else "healthy",
        problems=[ProblemBody(**asdict(problem)) for problem in problems],
        message=" ".join(problem.message for problem in problems) or "All parts of the service work.",
        timestamp=datetime.now(UTC),
        backend_online=True,
        database_connected=is_connected,
        gpu_available=_has_gpu(serving, replicas),
        memory_usage=percent(memory.total_bytes - memory.available_bytes, memory.total_bytes),
        gpu_memory_usage=percent(used, total) if gpus else None,
        active_tasks=active,
        uptime=max(0.0, time.time() - psutil.Process().create_time()),
        system_info=SystemInfo(
            version=version("wan22-serve"),
            platform=platform.platform(),
            python_version=platform.python_version(),
            cpu_cores=count_cores(),
            ram_total_gb=memory.total_bytes / 1e9,
            disk_free_gb=disk and disk[0] / 1e9,
            disk_total_gb=disk and disk[1] / 1e9,
        ),
    )


def _read_work(serving: Services) -> tuple[list[ReplicaInfo], int, bool]:
    """Returns the live replicas, the number of pending and running jobs, and whether the database could be read."""
    try:
        counts = serving.store.reader.count()
        return serving.replicas.all(), counts[JobState.PENDING] + counts[JobState.PROCESSING], True
    except (SQLAlchemyError, OSError):
        return [], 0, False


def _has_gpu(serving: Services, replicas: list[ReplicaInfo]) -> bool:
    """Returns whether generators work on GPUs. The settings tell it while none runs."""
    found = any(replica.hardware and replica.hardware.device == "cuda" for replica in replicas)
    return serving.settings.generator.num_gpus > 0 or found


def _read_disk(folder: Path) -> tuple[int, int] | None:
    """Returns the free and the total bytes of a folder's disk; None if the folder can't be read."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free, usage.total


def _read_cpu_name() -> str:
    """Returns the name of the CPU, else its architecture."""
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _find_port(request: Request) -> int:
    """Returns the port in the address that the client used."""
    try:
        port = request.url.port
    except ValueError:  # the client sent a host with an impossible port
        port = request.scope["server"][1]
    return port or (443 if request.url.scheme == "https" else 80)
