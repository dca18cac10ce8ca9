"""The bodies of the routes about models."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from deployments.downloader import Availability, Presence
from deployments.jobs.replica_registry import LoadedInfo, ReplicaInfo
from wan22_bridge.catalogue import ModelSpec

Status = Literal["missing", "downloading", "available", "loaded"]


class Holder(BaseModel):
    """A replica that has a model loaded."""

    replica: str
    deployment: str
    node: str
    process_id: int
    device: str
    load_seconds: float
    """What it took to have it loaded."""
    vram_mb: float
    """What its weights take on the GPU while it waits; 0 on a CPU, or where they are brought there in parts."""
    optimizations: list[str]
    job_id: str | None
    """What runs on the replica."""


class ModelStatus(BaseModel):
    """How a model stands."""

    model_id: str
    model_type: str
    title: str
    status: Status
    version: str | None
    """The commit, tag or branch that was asked for; null for the newest, and for what is not from a hub."""
    source: str
    is_cached: bool
    """Whether all of its files are on this machine."""
    is_loaded: bool
    is_valid: bool
    integrity_verified: bool
    """Whether each of its files was hashed as it came."""
    size_mb: float | None
    """Of its files; null while that is not known."""
    download_progress: float | None
    """Percent, while it is fetched."""
    download_speed_mbps: float | None
    """Megabytes each second."""
    download_eta_seconds: float | None
    optimization_applied: list[str]
    estimated_vram_usage_mb: float | None
    """What its weights take where it is loaded."""
    error_message: str | None
    """Why it could not be fetched the last time."""
    replicas: list[Holder]

    @classmethod
    def of(cls, spec: ModelSpec, found: Availability, replicas: list[ReplicaInfo]) -> "ModelStatus":
        """Tells of a model."""
        holders = [(replica, model) for replica in replicas for model in replica.models if model.model == spec.id]
        is_there, is_coming = found.presence is Presence.AVAILABLE, found.presence is Presence.DOWNLOADING
        loaded: LoadedInfo | None = holders[0][1] if holders else None
        return cls(
            model_id=spec.id,
            model_type=spec.type,
            title=spec.title,
            status="loaded" if holders else found.presence.value,
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
            optimization_applied=loaded.plan if loaded else [],
            estimated_vram_usage_mb=loaded.vram_mb if loaded else None,
            error_message=found.error["message"] if found.error else None,
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
    """What to fetch."""

    model_type: str
    """A model's id, or its type."""
    force_redownload: bool = False
    """Whether its files are read and hashed, and fetched again where they are wrong; else only what is missing is."""


class DownloadAnswer(BaseModel):
    """A download was begun, or need not be."""

    message: str
    model_type: str
    status: Status


class DownloadProgress(BaseModel):
    """How far a model is fetched."""

    model_type: str
    model_id: str
    status: Status
    progress: float
    """Percent."""
    speed_mbps: float
    eta_seconds: float | None
    error: dict[str, Any] | None
    last_update: datetime

    @classmethod
    def of(cls, spec: ModelSpec, found: Availability) -> "DownloadProgress":
        """Tells of one."""
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
    """What became of looking at each of a model's files."""

    model_type: str
    model_id: str
    is_valid: bool
    issues_found: list[str]
    recovery_attempted: bool
    recovery_successful: bool
    details: str


class Summary(BaseModel):
    """Who holds what."""

    total_models: int
    available_models: int
    loaded_models: int
    downloading_models: int
    models: dict[str, Status]
    replicas: list[ReplicaInfo]


def _percent(found: Availability) -> float:
    if found.presence is Presence.AVAILABLE:
        return 100.0
    return 100 * found.done_bytes / found.total_bytes if found.total_bytes else 0.0
