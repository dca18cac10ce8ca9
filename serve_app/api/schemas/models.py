"""Bodies of the requests and responses about models."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, StrictBool

from deployments.downloader import Availability, Presence
from deployments.fitting import Fit
from deployments.jobs.replica_registry import LoadedInfo, ReplicaInfo
from wan22_bridge.catalogue import ModelSpec

Status = Literal["missing", "downloading", "available", "loaded", "corrupted"]
"""Status of a model: its files are missing, being downloaded or complete, a replica has it loaded, or a file of it is
corrupted."""


class Holder(BaseModel):
    """A replica that has a model loaded."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    replica: str
    """Id of the replica."""
    deployment: str
    """Name of the replica's deployment in Ray Serve."""
    node: str
    """Machine on which the replica runs."""
    process_id: int
    device: str
    """Name of the GPU or the CPU."""
    load_seconds: float
    """Time that loading the model took."""
    vram_mb: float
    """GPU memory that the weights take between jobs; 0 on a CPU, and if they come onto the GPU in parts only."""
    optimizations: list[str]
    """Optimizations with which the model is loaded."""
    job_id: str | None
    """Id of the job that runs on the replica."""


class ModelStatus(BaseModel):
    """Status of a served model."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model_id: str
    model_type: str
    title: str
    """Name of the model for people."""
    status: Status
    version: str | None
    """Commit, tag or branch in the configuration; null for the newest version, and for models that are not from a
    hub."""
    source: str
    """Source of the model's files: `folder`, or `builtin:` or `hub:` with a name."""
    is_cached: bool
    """Whether all of the model's files are on this machine."""
    is_loaded: bool
    """Whether a replica has the model loaded."""
    is_valid: bool
    """The same value as `is_cached`."""
    integrity_verified: bool
    """Whether the service downloaded or created the model's files itself, and so checked them."""
    size_mb: float | None
    """Size of the model's files in megabytes of 10^6 bytes; null while it is not known."""
    download_progress: float | None
    """Progress of a running download in percent."""
    download_speed_mbps: float | None
    """Speed of a running download in megabytes per second."""
    download_eta_seconds: float | None
    """Estimated time until a running download is complete."""
    verification_progress: float | None
    """Progress of a running check of the model's files in percent; null while none runs."""
    optimization_applied: bool
    """Whether a replica has the model loaded with optimizations, which `replicas` names."""
    hardware_compatible: bool
    """Whether the smallest official size of the model fits one of the known GPUs. True on a CPU, and while no replica
    has reported its hardware."""
    estimated_vram_usage_mb: float | None
    """Estimated peak of the GPU's memory for the smallest official size, on the largest known GPU that it fits; null
    on a CPU, and while no replica has reported its hardware."""
    error_message: str | None
    """Error with which the last download failed, or the way to repair a corrupted model."""
    replicas: list[Holder]
    """Replicas that have the model loaded."""

    @classmethod
    def of(cls, spec: ModelSpec, found: Availability, replicas: list[ReplicaInfo], smallest: Fit) -> "ModelStatus":
        """Describes a model, from its files, the replicas that have it loaded, and the fit of its smallest size."""
        holders = [(replica, model) for replica in replicas for model in replica.models if model.model == spec.id]
        is_there, is_coming = found.presence is Presence.AVAILABLE, found.presence is Presence.DOWNLOADING
        loaded: LoadedInfo | None = holders[0][1] if holders else None
        return cls(
            model_id=spec.id,
            model_type=spec.type,
            title=spec.title,
            status=status_of(spec, found, replicas),
            version=spec.revision,
            source="folder" if spec.path is not None else f"{spec.source_kind}:{spec.source_ref}",
            is_cached=is_there,
            is_loaded=bool(holders),
            is_valid=is_there,
            integrity_verified=is_there and spec.path is None,
            size_mb=None if found.total_bytes is None else found.total_bytes / 1e6,
            download_progress=_percent(found) if is_coming else None,
            download_speed_mbps=found.bytes_per_second / 1e6 if is_coming else None,
            download_eta_seconds=found.eta_seconds,
            verification_progress=_percent_verified(found),
            optimization_applied=bool(loaded and loaded.plan),
            hardware_compatible=smallest.fits is not False,
            estimated_vram_usage_mb=None if smallest.peak_bytes is None else smallest.peak_bytes / 1e6,
            error_message=_describe_error(spec, found),
            replicas=[
                Holder(
                    replica=replica.id,
                    deployment=replica.deployment,
                    node=replica.node,
                    process_id=replica.process_id,
                    device=replica.device,
                    load_seconds=model.load_seconds,
                    vram_mb=model.vram_mb,
                    optimizations=model.plan,
                    job_id=replica.job_id,
                )
                for replica, model in holders
            ],
        )


class DownloadRequest(BaseModel):
    """A model to download."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model_type: str
    """A model's id or type."""
    force_redownload: StrictBool = False
    """Whether files that are present are checked by their hash, and downloaded again if they are corrupted. By default
    only missing files are downloaded."""


class DownloadAnswer(BaseModel):
    """Status of a model after a request to start or cancel its download."""

    message: str
    model_type: str
    status: Status


class DownloadProgress(BaseModel):
    """Progress of a model's download."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model_type: str
    model_id: str
    status: Status
    progress: float
    """Percent; 100 for a model whose files are complete."""
    speed_mbps: float
    """Megabytes per second."""
    eta_seconds: float | None
    """Estimated time until the download is complete."""
    error: dict[str, Any] | None
    """Error with which the last download failed."""
    last_update: datetime
    """Time of this response."""

    @classmethod
    def of(cls, spec: ModelSpec, found: Availability) -> "DownloadProgress":
        """Describes the download of a model."""
        return cls(
            model_type=spec.type,
            model_id=spec.id,
            status=found.presence.value,
            progress=_percent(found),
            speed_mbps=found.bytes_per_second / 1e6,
            eta_seconds=found.eta_seconds,
            error=found.error,
            last_update=datetime.now(UTC),
        )


class Verification(BaseModel):
    """Result of checking a model's files by their hashes."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model_type: str
    model_id: str
    is_valid: bool
    """Whether all files are correct now."""
    issues_found: list[str]
    """Files that were missing or corrupted, as `PATH: STATE`."""
    recovery_attempted: bool
    """Whether the service downloaded such files again."""
    recovery_successful: bool
    """Whether that download succeeded."""
    details: str


class VerificationCancelled(BaseModel):
    """Response to the cancellation of a verification."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    message: str
    model_type: str
    model_id: str
    was_running: bool
    """Whether the model was being verified."""


class Summary(BaseModel):
    """Overview of the served models and of the replicas that have them loaded."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    total_models: int
    available_models: int
    """Number of models whose files are complete, loaded ones included."""
    loaded_models: int
    downloading_models: int
    models: dict[str, Status]
    """Status of each model, by id."""
    replicas: list[ReplicaInfo]


def status_of(spec: ModelSpec, found: Availability, replicas: list[ReplicaInfo]) -> Status:
    """Returns the status of a model, from its files and the replicas that have it loaded."""
    is_loaded = any(model.model == spec.id for replica in replicas for model in replica.models)
    return "loaded" if is_loaded and found.presence is not Presence.CORRUPTED else found.presence.value


def _describe_error(spec: ModelSpec, found: Availability) -> str | None:
    if found.error is not None:
        return str(found.error["message"])
    if found.presence is Presence.CORRUPTED:
        return f"Files of {spec.id} are corrupted. POST /api/v1/models/verify/{spec.id} downloads them again."
    return None


def _percent_verified(found: Availability) -> float | None:
    if found.verified_bytes is None:
        return None
    return min(100.0, 100 * found.verified_bytes / found.total_bytes) if found.total_bytes else 0.0


def _percent(found: Availability) -> float:
    if found.presence is Presence.AVAILABLE:
        return 100.0
    return 100 * found.done_bytes / found.total_bytes if found.total_bytes else 0.0
