"""Sections of the settings: entries of `models:`, `generator:`, `scheduling:`, `prompt_enhancer:`, `webhooks:` and
`retention:`."""

import os
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from deployments.jobs.retention import DAY_SECONDS, HOUR_SECONDS, Retention
from deployments.network.addresses import UnusableUrl, check_url
from deployments.webhooks.signing import is_secret
from wan22_bridge.errors import NotReady
from wan22_bridge.plans import PlanConstraints, Quantization


class Strict(BaseModel):
    """Base of all settings: unknown keys are rejected, and docstrings describe the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ModelEntry(Strict):
    """A model to serve."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Id of the model, as in the catalogue configs/models.yaml. With `like`, the id may be any other name."""
    like: str | None = None
    """Id of the model in the catalogue whose type, defaults and limits this model shares, as a variant of it."""
    repository: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """Repository on the Hugging Face hub, in diffusers' format. By default the catalogue's repository."""
    path: Path | None = None
    """Folder that holds the model, in diffusers' format. By default a model that is not built in is downloaded for its
    first job."""
    revision: str | None = None
    """Commit, tag or branch to download. By default the newest commit at the time of the first download; later commits
    are not downloaded."""
    quantization: Quantization | None = None
    """Storage of this model's expert weights: `none`, `fp8`, `int8` or `gguf`. By default as in
    `generator.quantization`."""


def to_entry(value: Any) -> Any:
    """Converts an id alone into the mapping of a model."""
    return {"id": value} if isinstance(value, str) else value


class GeneratorSettings(Strict):
    """The generators, whose replicas load models and run jobs.

    There is one deployment for each model type, or one for all types.
    """

    num_gpus: float = Field(default=0, ge=0)
    """Number of GPUs that Ray assigns to each replica. 0 generates on the CPU."""
    num_cpus: float = Field(default=0.5, ge=0)
    """Number of CPUs that Ray reserves for each replica. It does not limit torch, which uses all cores."""
    shared: bool = False
    """Whether one deployment runs jobs of all model types. A job of another type then loads its model in a running
    replica, instead of starting a replica of another deployment."""
    loaded_models: int = Field(default=1, ge=1)
    """Maximum number of models that a replica keeps loaded. Beyond it, the least recently used model is evicted."""
    preload: list[str] = []
    """Ids of models to load when the service starts. For each of their types, one replica is never stopped for being
    idle, unless jobs of other types need its GPU."""
    quantization: Quantization | None = None
    """Storage of the experts' weights: `none`, `fp8`, `int8`, or `gguf` for a model whose files are in that format. By
    default `none` if the weights fit into memory without quantization, else `fp8`."""
    batched_guidance: bool = False
    """Whether both guidance passes, with the prompt and with the negative prompt, run as one batch. That is faster on
    GPUs that a single pass does not use fully, and needs more memory."""
    attention_backend: str = "native"
    """Name of one of diffusers' attention backends that is installed on this machine, such as `_flash_3_hub`."""
    compiled: bool = False
    """Whether the transformers' blocks are compiled. The first job of each video size waits for the compilation."""
    parallel_degree: int | None = Field(default=None, ge=1)
    """Number of a replica's GPUs that denoise one video together. By default the largest number, up to `num_gpus`, that
    the model supports."""
    checkpoint_interval_seconds: float = Field(default=20, ge=0)
    """Minimum time between two snapshots of a running job. After a crash, the job resumes from its last snapshot."""
    preview_interval_seconds: float = Field(default=2, ge=0)
    """Minimum time between two live previews of a running job. 0 disables previews."""
    hang_seconds: float = Field(default=1800, gt=0)
    """Time without a completed step or decoded frame after which a job counts as hung. Its process is then ended, and
    the job resumes in another process. Set it well above the duration of the slowest step."""
    shutdown_timeout_seconds: float = Field(default=7200, gt=0)
    """Time that a replica may take to finish its job before Ray Serve ends the process, when the replica is stopped.
    Set it above the duration of the longest job."""

    @model_validator(mode="after")
    def _check_parallel_degree(self) -> Self:
        if self.num_gpus >= 1 and (self.parallel_degree or 1) > self.num_gpus:
            raise ValueError(
                f"parallel_degree {self.parallel_degree} needs num_gpus of at least {self.parallel_degree}, "
                f"got {self.num_gpus:g}"
            )
        return self

    def plan_constraints(self) -> PlanConstraints:
        """Returns the constraints that these settings put on every plan."""
        return PlanConstraints(
            quantization=self.quantization,
            batched_guidance=self.batched_guidance,
            attention_backend=self.attention_backend,
            compiled=self.compiled,
            parallel_degree=self.parallel_degree,
        )


class PromptEnhancerSettings(Strict):
    """A language model that enhances prompts on request, behind an endpoint that is compatible with OpenAI's chat API.

    Without this section, prompts are enhanced by the rules of configs/prompts.yaml.
    """

    url: str = Field(pattern=r"^https?://[^/\s]+")
    """Base URL of the API, such as `http://127.0.0.1:11434/v1`. The service calls `URL/chat/completions`."""
    model: str = Field(min_length=1)
    """Name of the model at the endpoint."""
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the endpoint's key. By default no key is sent."""
    timeout_seconds: float = Field(default=30, gt=0)
    """Time after which a call of the endpoint fails."""


class SchedulingSettings(Strict):
    """Limits on overtaking in the job queue.

    Jobs are ordered by priority, then by whether their model is loaded, then by equal shares for all owners.
    """

    age_seconds: float = Field(default=600, gt=0)
    """Time after which a waiting job rises to the next higher priority, if no job of its own priority was started
    meanwhile."""
    patience_seconds: float = Field(default=300, ge=0)
    """Maximum time by which a job whose model is loaded may be younger than a job that it overtakes, whose model is not
    loaded. The maximum is at least the time that six such jobs take."""


class WebhookSettings(Strict):
    """Webhooks, which tell other programs that a job has ended."""

    urls: list[str] = Field(default=[], max_length=16)
    """Receivers of a webhook at the end of each job. They may have private addresses. A request names a receiver of its
    own with `webhook_url`."""
    allow_private: bool = False
    """Whether the `webhook_url` of a request may have a private address. Then everyone who can submit a job can send
    POST requests into the service's own network."""
    secret_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the secret that signs the webhooks: `whsec_` and 24 to 64 bytes in
    base64. The ingress and the dispatcher read it. By default the service creates a secret, which `wan22 webhooks
    secret` prints."""

    @field_validator("urls")
    @classmethod
    def _check_urls(cls, urls: list[str]) -> list[str]:
        for url in urls:
            try:
                check_url(url, allow_private=True)
            except UnusableUrl as exc:
                raise ValueError(f"the URL {exc}") from None
        return urls

    def configured_secret(self) -> str | None:
        """Returns the secret in the environment, or None if the service is to create one.

        Raises:
            NotReady: the environment variable is not set, or holds no secret.
        """
        if self.secret_env is None:
            return None
        secret = os.environ.get(self.secret_env, "")
        if not is_secret(secret):
            raise NotReady(
                f"The environment variable {self.secret_env} holds no secret: expected whsec_ and 24 to 64 bytes in "
                "base64.",
                code="webhook_secret_missing",
                suggestions=["Set it for all of Ray's processes, or remove webhooks.secret_env."],
                can_retry=False,
            )
        return secret


_GB = 10**9


class RetentionSettings(Strict):
    """Limits on the age and the size of stored data. By default videos, jobs and their inputs are kept forever.

    The service removes old data every hour, `wan22 clean` at once. Favorites, and data of pending and running jobs,
    stay. Sizes are in GB of 10^9 bytes.
    """

    video_days: float | None = Field(default=None, gt=0)
    """Time after its end at which a completed job is deleted with its video, unless the video is a favorite."""
    video_gb: float | None = Field(default=None, gt=0)
    """Size of all mp4 files together, beyond which the oldest are deleted with their jobs. Owners with the most bytes
    lose theirs first. Favorites count, but stay."""
    video_gb_per_owner: float | None = Field(default=None, gt=0)
    """Size of the mp4 files of each owner, beyond which the owner's oldest are deleted with their jobs. Favorites
    count, but stay."""
    failed_job_days: float | None = Field(default=None, gt=0)
    """Time after its end at which a failed or cancelled job is deleted."""
    input_days: float | None = Field(default=None, gt=0)
    """Time after its last use at which an input of ended jobs is removed. These jobs can't be retried or remixed then.
    By default inputs stay as long as their jobs."""
    upload_hours: float = Field(default=24, ge=1)
    """Time after which an upload that no job uses is removed."""
    input_gb: float | None = Field(default=None, gt=0)
    """Size of all inputs together, beyond which the oldest are removed: unused uploads first, then inputs of ended
    jobs. Owners with the most bytes lose theirs first."""
    input_gb_per_owner: float | None = Field(default=None, gt=0)
    """The same for the inputs of each owner."""
    event_hours: float = Field(default=24, ge=1)
    """Time after which events are deleted. A stream can resume from an event that is younger."""
    webhook_days: float = Field(default=30, gt=0)
    """Time after which webhooks that were delivered or have failed are deleted."""

    min_free_gb: float = Field(default=2, ge=0)
    """Free space on the disk of `data_dir` below which new jobs and uploads are rejected with 507, and pending jobs
    wait. Running jobs use this space to finish."""

    def to_retention(self) -> Retention:
        """Returns the limits in seconds and bytes."""
        return Retention(
            video_seconds=_times(self.video_days, DAY_SECONDS),
            video_bytes=_to_bytes(self.video_gb),
            video_bytes_per_owner=_to_bytes(self.video_gb_per_owner),
            failed_job_seconds=_times(self.failed_job_days, DAY_SECONDS),
            input_seconds=_times(self.input_days, DAY_SECONDS),
            upload_seconds=self.upload_hours * HOUR_SECONDS,
            input_bytes=_to_bytes(self.input_gb),
            input_bytes_per_owner=_to_bytes(self.input_gb_per_owner),
            event_seconds=self.event_hours * HOUR_SECONDS,
            webhook_seconds=self.webhook_days * DAY_SECONDS,
        )

    @property
    def min_free_bytes(self) -> int:
        """`min_free_gb` in bytes."""
        return int(self.min_free_gb * _GB)


def _times(value: float | None, unit: float) -> float | None:
    return None if value is None else value * unit


def _to_bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * _GB)
