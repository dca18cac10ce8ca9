"""The registry of live generator replicas: each one regularly reports its device, its job and its loaded models."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import delete, insert, select, update

from deployments.jobs.database import Database
from deployments.jobs.schema import replicas
from wan22_bridge.plans import HardwareProfile

REPORT_SECONDS = 10.0
"""Time between two reports of a replica."""
EXPIRY_SECONDS = 45.0
"""A replica counts as gone when its last report is older than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedInfo:
    """A model that a replica has loaded."""

    model: str
    plan: list[str]
    """The optimizations that make the model fit, described in words."""
    load_seconds: float
    vram_mb: float
    """Device memory of the weights when their plan took effect; 0 on a CPU."""
    quantization: str = "none"
    """Storage of the experts' weights, as `Quantization` names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuUse:
    """Present use of one GPU, by all processes on it."""

    uuid: str
    """Id of the GPU, which the manufacturer gave it."""
    name: str
    driver_version: str
    gpu_percent: float | None
    """Share of the last second in which the GPU was busy; None if the driver does not measure it."""
    vram_used_mb: float
    """Used memory in megabytes of 10^6 bytes."""
    vram_total_mb: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaInfo:
    """The report of a generator replica."""

    # The database stores reports as JSON, so the field names must not change.

    id: str
    deployment: str
    node: str
    process_id: int
    device: str
    """The manufacturer's name of the device."""
    job_id: str | None
    """Id of the running job, if any."""
    models: list[LoadedInfo]
    """The loaded models, least recently used first."""
    hardware: HardwareProfile | None = None
    """The replica's machine, before any model was loaded. None until the replica has opened its device."""
    torch_version: str | None = None
    """None until the replica has opened its device."""
    cuda_version: str | None = None
    """Version of CUDA that torch was built for; None without CUDA."""
    gpus: list[GpuUse] = field(default_factory=list)
    """Present use of the replica's GPUs; empty on a CPU."""


class ReplicaRegistry:
    """Stores the reports of replicas in the job database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report(self, info: ReplicaInfo) -> None:
        """Stores a replica's report and removes the replicas that are gone."""
        values: dict[str, Any] = {"data": json.dumps(asdict(info)), "seen_at": self._database.now()}
        with self._database.writing() as connection:
            connection.execute(delete(replicas).where(replicas.c.seen_at < self._database.now() - EXPIRY_SECONDS))
            changed = connection.execute(update(replicas).where(replicas.c.id == info.id).values(**values))
            if not changed.rowcount:
                connection.execute(insert(replicas).values(id=info.id, **values))

    def remove(self, replica_id: str) -> None:
        """Removes a replica that is shutting down."""
        with self._database.writing() as connection:
            connection.execute(delete(replicas).where(replicas.c.id == replica_id))

    def all(self) -> list[ReplicaInfo]:
        """Returns the live replicas, ordered by id."""
        alive = select(replicas.c.data).where(replicas.c.seen_at >= self._database.now() - EXPIRY_SECONDS)
        with self._database.reading() as connection:
            found = [json.loads(data) for data in connection.execute(alive.order_by(replicas.c.id)).scalars()]
        return [_read(data) for data in found]


def _read(data: dict[str, Any]) -> ReplicaInfo:
    models = [LoadedInfo(**model) for model in data["models"]]
    hardware = data.get("hardware")
    if hardware is not None:
        capability = hardware["compute_capability"]
        hardware = HardwareProfile(**hardware | {"compute_capability": capability and tuple(capability)})
    gpus = [GpuUse(**gpu) for gpu in data.get("gpus", [])]
    return ReplicaInfo(**data | {"models": models, "hardware": hardware, "gpus": gpus})
