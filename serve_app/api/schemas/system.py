"""Bodies of the responses about the service's machine: health, use, history, hardware and ports."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from deployments.jobs.replica_registry import ReplicaInfo
from deployments.jobs.stats_history import Period, Use
from deployments.jobs.wait_history import Waits
from deployments.system_stats import Gpu, SystemStats, percent


class _Described(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class GpuBody(_Described):
    """Use of one GPU, by all processes on it."""

    node: str
    """Machine of the GPU."""
    uuid: str
    """Id of the GPU, which the manufacturer gave it."""
    name: str
    gpu_percent: float | None
    """Share of the last second in which the GPU was busy; null if the driver does not measure it."""
    vram_used_mb: float
    """Used memory in megabytes of 10^6 bytes."""
    vram_total_mb: float
    vram_percent: float
    replicas: list[str]
    """Ids of the replicas that may use the GPU."""

    @classmethod
    def of(cls, gpu: Gpu) -> "GpuBody":
        """Describes a GPU."""
        use = gpu.use
        return cls(
            node=gpu.node,
            uuid=use.uuid,
            name=use.name,
            gpu_percent=use.gpu_percent,
            vram_used_mb=use.vram_used_mb,
            vram_total_mb=use.vram_total_mb,
            vram_percent=percent(use.vram_used_mb, use.vram_total_mb),
            replicas=gpu.replicas,
        )


class HeldModelBody(_Described):
    """A model, and the replicas that have it loaded."""

    vram_mb: float
    """GPU memory of the weights on all these replicas; 0 on CPUs."""
    replicas: list[str]
    """Ids of the replicas."""


class UseBody(_Described):
    """Use of the machine at one time, or on average over an interval."""

    timestamp: datetime
    """Time of the measurement, or start of the interval."""
    cpu_percent: float
    """Average over all cores since the last measurement."""
    ram_used_gb: float
    """RAM that is not available to new processes, in GB of 10^9 bytes."""
    ram_total_gb: float
    ram_percent: float
    gpu_percent: float
    """Average over all known GPUs; 0 without a GPU."""
    vram_used_mb: float
    """Used memory of all known GPUs in megabytes of 10^6 bytes; 0 without a GPU."""
    vram_total_mb: float
    """Memory of all known GPUs; 0 without a GPU."""
    vram_percent: float

    @classmethod
    def of_use(cls, timestamp: datetime, use: Use) -> "UseBody":
        """Describes the use of the machine."""
        return cls(
            timestamp=timestamp,
            cpu_percent=use.cpu_percent,
            ram_used_gb=use.ram_used_gb,
            ram_total_gb=use.ram_total_gb,
            ram_percent=percent(use.ram_used_gb, use.ram_total_gb),
            gpu_percent=use.gpu_percent,
            vram_used_mb=use.vram_used_mb,
            vram_total_mb=use.vram_total_mb,
            vram_percent=percent(use.vram_used_mb, use.vram_total_mb),
        )


class StatsBody(UseBody):
    """Use of the machine now. The CPU and the RAM are those of the machine that answers."""

    gpus: list[GpuBody]
    """The GPUs of the live generators, on all machines. A generator reports them every ten seconds."""
    models: dict[str, HeldModelBody]
    """The loaded models, by id."""

    @classmethod
    def of(cls, stats: SystemStats) -> "StatsBody":
        """Describes the use of the machine."""
        return cls(
            **UseBody.of_use(stats.timestamp, stats.use).model_dump(),
            gpus=[GpuBody.of(gpu) for gpu in stats.gpus],
            models={
                name: HeldModelBody(vram_mb=model.vram_mb, replicas=model.replicas)
                for name, model in stats.models.items()
            },
        )


class HistoryBody(_Described):
    """Use of the dispatcher's machine over the last hours."""

    hours: float
    interval_seconds: int
    """Length of the interval over which each point is an average."""
    points: list[UseBody]
    """At most 501 points, oldest first. Times at which the service did not run have none."""

    @classmethod
    def of(cls, hours: float, period: Period) -> "HistoryBody":
        """Describes a period."""
        points = [UseBody.of_use(datetime.fromtimestamp(begin, UTC), use) for begin, use in period.points]
        return cls(hours=hours, interval_seconds=period.interval_seconds, points=points)


class SystemInfo(_Described):
    """The software, and the machine that answers."""

    version: str
    """Version of wan22-serve."""
    platform: str
    """Operating system and architecture."""
    python_version: str
    cpu_cores: int
    """Number of logical cores that the service may use at the same time."""
    ram_total_gb: float
    """RAM that the service may use, within the limits of its container, in GB of 10^9 bytes."""
    disk_free_gb: float | None
    """Free space on the disk of the data folder, in GB of 10^9 bytes; null if the folder can't be read."""
    disk_total_gb: float | None
    """Size of the same disk; null if the folder can't be read."""


class ProblemBody(_Described):
    """A condition of the service that an operator should know."""

    code: str
    """Stable identifier for programs."""
    level: Literal["warning", "error"]
    """`error` if no job can run, `warning` if jobs still run."""
    message: str
    suggestion: str
    """The way to repair it."""


class HealthBody(_Described):
    """Health of the service."""

    status: Literal["healthy", "degraded", "unhealthy"]
    """`unhealthy` if no job can run, because the database or the dispatcher does not answer, or the data folder can't
    be read. `degraded` if a deployment of the service is losing replicas, or the disk is nearly full. Else
    `healthy`."""
    message: str
    """The problems in words."""
    problems: list[ProblemBody]
    """The problems, the most severe first; empty for a healthy service."""
    timestamp: datetime
    backend_online: bool
    """Always true in a response."""
    database_connected: bool
    gpu_available: bool
    """Whether generators get a GPU by the settings, or a live generator has one. It stays true while none runs."""
    memory_usage: float
    """Use of the RAM in percent."""
    gpu_memory_usage: float | None
    """Use of the GPUs' memory in percent; null without a GPU."""
    active_tasks: int
    """Number of pending and running jobs; 0 while the database can't be reached."""
    uptime: float
    """Seconds since the answering process started."""
    system_info: SystemInfo


class GeneratorHardware(_Described):
    """The device of one generator, as the generator reported it."""

    replica: str
    """Id of the replica."""
    node: str
    """Machine of the generator."""
    device: Literal["cuda", "cpu"]
    name: str
    """Name of the GPU or the CPU."""
    gpu_count: int
    """Number of GPUs that the generator may use; 0 on a CPU."""
    compute_capability: str | None
    """CUDA compute capability of the GPUs, such as `9.0`; null on a CPU."""
    vram_total_mb: float
    """Memory of one GPU in megabytes of 10^6 bytes; 0 on a CPU."""
    ram_total_gb: float
    """RAM of the generator's machine in GB of 10^9 bytes."""
    driver_version: str | None
    """Version of NVIDIA's driver; null on a CPU, and if the driver's tool is missing."""
    torch_version: str | None
    cuda_version: str | None
    """Version of CUDA that torch was built for; null without CUDA."""

    @classmethod
    def of(cls, replica: ReplicaInfo) -> "GeneratorHardware | None":
        """Describes the device of a generator; None if the generator has not opened its device yet."""
        hardware = replica.hardware
        if hardware is None:
            return None
        capability = hardware.compute_capability
        return cls(
            replica=replica.id,
            node=replica.node,
            device="cuda" if hardware.device == "cuda" else "cpu",
            name=hardware.name,
            gpu_count=hardware.gpu_count if hardware.device == "cuda" else 0,
            compute_capability=None if capability is None else ".".join(map(str, capability)),
            vram_total_mb=hardware.vram_total_bytes / 1e6,
            ram_total_gb=hardware.ram_total_bytes / 1e9,
            driver_version=replica.gpus[0].driver_version if replica.gpus else None,
            torch_version=replica.torch_version,
            cuda_version=replica.cuda_version,
        )


class HardwareBody(_Described):
    """Hardware of the machine that answers, and of the live generators."""

    cpu_name: str
    cpu_cores: int
    """Number of physical cores, or of the cores that the container may use if that is less."""
    cpu_threads: int
    """Number of logical cores that the service may use at the same time."""
    ram_total_gb: float
    """RAM that the service may use, within the limits of its container, in GB of 10^9 bytes."""
    ram_available_gb: float
    platform: str
    """Operating system and architecture."""
    python_version: str
    gpus: list[GpuBody]
    """The GPUs of the live generators, on all machines."""
    generators: list[GeneratorHardware]
    """The live generators that have opened their device. A generator starts with the first job that needs it."""


class PortsBody(_Described):
    """The ports of the service, as the client reaches them."""

    backend_port: int
    """Port of the API."""
    frontend_port: int
    """Port of the web page, which the same server serves."""
    status: Literal["running"]


class QueueHistoryPoint(_Described):
    """The queue in one interval."""

    timestamp: datetime
    """Start of the interval."""
    pending: int
    """Number of jobs that wait at the end of the interval."""
    started: int
    """Number of jobs that started in the interval."""
    wait_seconds: float | None
    """Average time for which these jobs had waited; null without one."""


class QueueHistoryBody(_Described):
    """The queue over the last hours, from the jobs of all owners that are not deleted."""

    hours: float
    interval_seconds: int
    points: list[QueueHistoryPoint]
    """Oldest first, without gaps."""

    @classmethod
    def of(cls, hours: float, waits: Waits) -> "QueueHistoryBody":
        """Describes a period."""
        points = [
            QueueHistoryPoint(
                timestamp=datetime.fromtimestamp(point.begin, UTC),
                pending=point.pending,
                started=point.started,
                wait_seconds=point.wait_seconds,
            )
            for point in waits.points
        ]
        return cls(hours=hours, interval_seconds=waits.interval_seconds, points=points)


class DashboardBody(_Described):
    """Ray's dashboard."""

    url: str | None
    """Address of the dashboard, which is usually reachable on the service's machine only; null without one."""
    needs_token: bool
    """Whether it asks for the token that `ray get-auth-token` prints on that machine."""
