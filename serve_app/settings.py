"""The typed `args:` of serve_config.yaml. Errors name every unknown key and every invalid value."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from wan22_bridge.catalogue import ModelSpec, SourceKind, load_catalogue
from wan22_bridge.errors import ConfigurationError, ModelMissing
from wan22_bridge.fetching.downloads import ensure_model
from wan22_bridge.plans import PlanConstraints, Quantization

GENERATOR_STARTS = 1_000_000_000
"""Number of consecutive failed starts after which Ray Serve gives up a generator's deployment for good. It is
practically unlimited, because the cause of a failed start may pass. Ray Serve's processes need the same number in the
environment variable RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ModelEntry(_Strict):
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


def _to_entry(value: Any) -> Any:
    """Converts an id alone into the mapping of a model."""
    return {"id": value} if isinstance(value, str) else value


class GeneratorSettings(_Strict):
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


class SchedulingSettings(_Strict):
    """Limits on overtaking in the job queue.

    Jobs are ordered by priority, then by whether their model is loaded, then by equal shares for all owners.
    """

    age_seconds: float = Field(default=600, gt=0)
    """Time after which a waiting job rises to the next higher priority, if no job of its own priority was started
    meanwhile."""
    patience_seconds: float = Field(default=300, ge=0)
    """Maximum time by which a job whose model is loaded may be younger than a job that it overtakes, whose model is not
    loaded. The maximum is at least the time that six such jobs take."""


class Settings(_Strict):
    """All settings of the service."""

    data_dir: Path = Path("data")
    """Folder for jobs, inputs, videos and models. A relative path starts at the service's working directory."""
    storage_url: str | None = None
    """Bucket for inputs, videos and snapshots, with an optional prefix: `s3://BUCKET/PREFIX`, `gs://…` or `az://…`. Use
    it for machines that share no folder; `data_dir` then holds copies and work in progress. Credentials are read from
    the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL for a store that is not Amazon's.
    By default these files are in `data_dir`."""
    models_dir: Path = Path("models")
    """Folder for built-in and downloaded models. A relative path starts at `data_dir`."""
    cast_to_bf16: bool = False
    """Whether downloaded fp32 weights are stored as bf16. T2V-A14B then takes 69 GB on disk instead of 126 GB."""
    database_url: str | None = None
    """Database for jobs: `postgresql://…` or `sqlite:///PATH`. By default the SQLite file jobs.db in `data_dir`."""
    models: list[Annotated[ModelEntry, BeforeValidator(_to_entry)]] = Field(
        default=[ModelEntry(id="tiny-t2v"), ModelEntry(id="tiny-i2v"), ModelEntry(id="tiny-ti2v")], min_length=1
    )
    """Models to serve, each an id or a mapping. A request that names a type gets the first model of that type."""
    generator: GeneratorSettings = GeneratorSettings()
    """Settings of the generators, whose replicas run the jobs."""
    scheduling: SchedulingSettings = SchedulingSettings()
    """Limits on overtaking in the job queue."""
    max_running_jobs: int = Field(default=1, ge=1)
    """Maximum number of jobs that run at the same time, over all model types. Set it to the number of GPUs, divided by
    `generator.num_gpus`."""
    ingress_replicas: int = Field(default=1, ge=1)
    """Number of processes that serve HTTP."""
    max_attempts: int = Field(default=3, ge=1)
    """Number of times a job is started before it fails, if its process dies each time."""
    lease_seconds: float = Field(default=15, ge=1)
    """Time after which a new dispatcher takes over the running jobs of a dispatcher that died."""
    start_timeout_seconds: float = Field(default=600, gt=0)
    """Time that a generator may take to start a job, including the start of its replica."""
    max_upload_mb: float = Field(default=32, gt=0)
    """Maximum size of a request's body in megabytes of 10^6 bytes. Larger requests are rejected."""

    @field_validator("storage_url")
    @classmethod
    def _check_storage_url(cls, url: str | None) -> str | None:
        if url is not None and re.match("(s3|gs|az|abfss?)://[^/]", url) is None:
            raise ValueError("expected the URL of a bucket: s3://BUCKET/PREFIX, or the same with gs:// or az://")
        return url

    def with_absolute_paths(self) -> "Settings":
        """Returns the settings with absolute paths and a database URL, independent of the working directory.

        Raises:
            ConfigurationError: data_dir names the home directory of a user who does not exist.
        """
        try:
            data_dir = self.data_dir.expanduser().absolute()
        except RuntimeError as exc:
            raise ConfigurationError(f"data_dir: {exc}", param="data_dir") from exc
        return self.model_copy(
            update={
                "data_dir": data_dir,
                "models_dir": data_dir / self.models_dir.expanduser(),
                "database_url": self.database_url or f"sqlite:///{data_dir}/jobs.db",
            }
        )

    def served_models(self) -> list[ModelSpec]:
        """Returns the models to serve: the catalogue's entries with the changes that `models` makes.

        Raises:
            ConfigurationError: a model is not in the catalogue, is named twice, or its folder does not hold it; or
                `generator.preload` names a model that is not served.
        """
        catalogue = load_catalogue()
        served: dict[str, ModelSpec] = {}
        for index, entry in enumerate(self.models):
            key = f"models[{index}]"
            known = entry.like or entry.id
            if known not in catalogue:
                raise ConfigurationError(
                    f"{key}: the catalogue has no model {known!r}: expected one of {', '.join(catalogue)}.", param=key
                )
            if entry.id in served:
                raise ConfigurationError(f"{key}: {entry.id!r} is named twice: expected each id once.", param=key)
            path = entry.path.expanduser().absolute() if entry.path else None
            spec = replace(
                catalogue[known], id=entry.id, path=path, revision=entry.revision, quantization=entry.quantization
            )
            if entry.repository is not None:
                spec = replace(spec, source_kind=SourceKind.HUB, source_ref=entry.repository)
            if path is not None:
                try:
                    ensure_model(spec, self.models_dir)
                except ModelMissing as exc:
                    raise ConfigurationError(f"{key}: {exc.message} {exc.suggestions[0]}", param=key) from exc
            served[entry.id] = spec
        for index, model in enumerate(self.generator.preload):
            if model not in served:
                key = f"generator.preload[{index}]"
                raise ConfigurationError(
                    f"{key}: {model!r} is not among the served models: expected one of {', '.join(served)}.", param=key
                )
        return list(served.values())


def parse_settings(args: Mapping[str, Any]) -> Settings:
    """Validates the `args:` of a Serve config.

    Raises:
        ConfigurationError: a key is unknown or a value is invalid; the message names each of them.
    """
    try:
        return Settings.model_validate(args)
    except ValidationError as exc:
        raise ConfigurationError(describe(exc)) from exc


def describe(error: ValidationError) -> str:
    """Returns all errors of a validation, one in each line as `KEY: MESSAGE`."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key.")
        else:
            lines.append(f"{key}: {item['msg']}, got {item['input']!r:.80}.")
    return "\n".join(lines)
