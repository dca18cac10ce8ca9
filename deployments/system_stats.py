"""Present use of the machine, and of the GPUs that the generators report."""

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil

from deployments.jobs.replica_registry import GpuUse, ReplicaInfo, ReplicaRegistry
from deployments.jobs.stats_history import Use
from wan22_bridge.machine import read_ram

_SHORTEST_SECONDS = 1.0
"""Shortest time over which the use of the CPU is averaged. Readings in quicker succession get the last average."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU, and the replicas that use it."""

    node: str
    """Machine of the GPU."""
    use: GpuUse
    replicas: list[str]
    """Ids of the replicas that may use the GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldModel:
    """A model, and the replicas that have it loaded."""

    vram_mb: float
    """GPU memory of the weights on all these replicas."""
    replicas: list[str]
    """Ids of the replicas."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemStats:
    """Use of the machine at one time."""

    timestamp: datetime
    use: Use
    """Figures of the machine, and of all known GPUs together."""
    gpus: list[Gpu]
    models: dict[str, HeldModel]
    """The loaded models by id."""


class SystemMeter:
    """Measures the machine of this process. Several threads may read at once."""

    def __init__(self, registry: ReplicaRegistry) -> None:
        """Begins the first average of the CPU's use.

        Args:
            registry: the reports of the generators, which alone know the GPUs.
        """
        self._registry = registry
        self._lock = threading.Lock()
        self._times = psutil.cpu_times()
        self._created_at = self._read_at = time.monotonic()
        self._cpu_percent = 0.0

    @property
    def knows_cpu(self) -> bool:
        """Whether the first average of the CPU's use has ended. Until then its use is read as 0."""
        return time.monotonic() - self._created_at >= _SHORTEST_SECONDS

    def read(self) -> SystemStats:
        """Returns the present use. The CPU's use is the average since the last reading."""
        replicas = self._registry.all()
        memory, gpus = read_ram(), list_gpus(replicas)
        percents = [gpu.use.gpu_percent for gpu in gpus if gpu.use.gpu_percent is not None]
        return SystemStats(
            timestamp=datetime.now(UTC),
            use=Use(
                cpu_percent=self._measure_cpu(),
                ram_used_gb=(memory.total_bytes - memory.available_bytes) / 1e9,
                ram_total_gb=memory.total_bytes / 1e9,
                gpu_percent=sum(percents) / len(percents) if percents else 0.0,
                vram_used_mb=sum(gpu.use.vram_used_mb for gpu in gpus),
                vram_total_mb=sum(gpu.use.vram_total_mb for gpu in gpus),
            ),
            gpus=gpus,
            models=_list_models(replicas),
        )

    def _measure_cpu(self) -> float:
        """Returns the CPU's use in percent. psutil's own function averages for each thread by itself."""
        with self._lock:
            now = time.monotonic()
            if now - self._read_at >= _SHORTEST_SECONDS:
                times = psutil.cpu_times()
                total, idle = _total(times) - _total(self._times), _idle(times) - _idle(self._times)
                self._cpu_percent = min(100.0, max(0.0, 100 * (1 - idle / total))) if total > 0 else 0.0
                self._times, self._read_at = times, now
            return self._cpu_percent


def percent(used: float, total: float) -> float:
    """Returns a share in percent; 0 of nothing."""
    return 100 * used / total if total else 0.0


def _total(times: Any) -> float:
    return float(sum(times) - times.guest - times.guest_nice)  # which `user` and `nice` hold already


def _idle(times: Any) -> float:
    return float(times.idle + times.iowait)


def list_gpus(replicas: list[ReplicaInfo]) -> list[Gpu]:
    """Returns each GPU once, because several replicas may share one."""
    found: dict[tuple[str, str], Gpu] = {}
    for replica in replicas:
        for use in replica.gpus:
            gpu = found.setdefault((replica.node, use.uuid), Gpu(node=replica.node, use=use, replicas=[]))
            gpu.replicas.append(replica.id)
    return list(found.values())


def _list_models(replicas: list[ReplicaInfo]) -> dict[str, HeldModel]:
    holders: dict[str, list[tuple[str, float]]] = {}
    for replica in replicas:
        for model in replica.models:
            holders.setdefault(model.model, []).append((replica.id, model.vram_mb))
    return {
        model: HeldModel(vram_mb=sum(vram_mb for _, vram_mb in found), replicas=[replica for replica, _ in found])
        for model, found in holders.items()
    }
