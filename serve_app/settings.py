"""The `args:` of serve_config.yaml, typed. An unknown key or a bad value is refused by its name."""

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
"""How often in a row a generator may fail to start before Serve gives its deployment up, for good: what is amiss may
pass. Serve's processes have to have it as RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT, too."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ModelEntry(_Strict):
    """A model to serve."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Its id in the catalogue, configs/models.yaml; or any other, with `like`."""
    like: str | None = None
    """The model of the catalogue whose type, defaults and limits it has: for a variant that is served beside it."""
    repository: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """On the hub, in diffusers' format, in place of the catalogue's."""
    path: Path | None = None
    """Its folder in diffusers' format; without it, a model that is not built in is fetched for its first job."""
    revision: str | None = None
    """What is fetched: a commit, a tag or a branch; by default the newest, and that for good."""
    quantization: Quantization | None = None
    """How its experts' weights are stored, in place of what `generator` says."""


def _entry(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


class GeneratorSettings(_Strict):
    """The generators: one deployment for each model type that is served, or one for all."""

    num_gpus: float = Field(default=0, ge=0)
    """GPUs that Ray gives to each replica."""
    num_cpus: float = Field(default=0.5, ge=0)
    """CPUs that Ray counts for each replica; torch uses all cores all the same."""
    shared: bool = False
    """Whether a replica takes jobs of all model types: then another type is loaded in it, and no other one started."""
    loaded_models: int = Field(default=1, ge=1)
    """How many models a replica keeps loaded; what has not been used the longest makes room."""
    preload: list[str] = []
    """Models that are loaded when the service starts. A replica for each model type among them stays however long it
    is idle, unless jobs of other types need its GPU."""
    quantization: Quantization | None = None
    """How the experts' weights are stored: none, fp8, int8, or gguf as a model's files have it; by default none while
    they fit as they are, else fp8."""
    batched_guidance: bool = False
    """Runs the prompt and the negative prompt as one batch: for GPUs that a single pass does not fill."""
    attention_backend: str = "native"
    """One of diffusers' attention backends that is installed here, such as `_flash_3_hub`."""
    compiled: bool = False
    """Compiles the transformers' blocks; the first job of each size waits for it."""
    parallel_degree: int | None = Field(default=None, ge=1)
    """GPUs of a replica that denoise a video together; by default the most of num_gpus that the model takes."""
    checkpoint_interval_seconds: float = Field(default=20, ge=0)
    """How often a job that is being denoised is kept on the disk; after a crash it goes on from there."""
    preview_interval_seconds: float = Field(default=2, ge=0)
    """How often a job that is being denoised shows what it is becoming; 0 switches previews off."""
    hang_seconds: float = Field(default=1800, gt=0)
    """A job of which no step, and no decoded frame, ends in so long hangs: its process is ended, and it goes on in
    another one. Keep it well beyond the slowest step."""
    shutdown_timeout_seconds: float = Field(default=7200, gt=0)
    """How long a replica that is to go may take to end its job. Keep it beyond the longest job."""

    @model_validator(mode="after")
    def _has_gpus_enough(self) -> Self:
        if self.num_gpus >= 1 and (self.parallel_degree or 1) > self.num_gpus:
            raise ValueError(f"parallel_degree {self.parallel_degree} takes num_gpus of at least as many")
        return self

    def plan_constraints(self) -> PlanConstraints:
        """What every plan is to have."""
        return PlanConstraints(
            quantization=self.quantization,
            batched_guidance=self.batched_guidance,
            attention_backend=self.attention_backend,
            compiled=self.compiled,
            parallel_degree=self.parallel_degree,
        )


class SchedulingSettings(_Strict):
    """Which job goes next: by priority, then by what is loaded, within bounds, then by equal shares for all owners."""

    age_seconds: float = Field(default=600, gt=0)
    """After waiting for so long without one of its class begun, a job goes before the next higher class."""
    patience_seconds: float = Field(default=300, ge=0)
    """A job that needs a model loaded is overtaken by jobs that don't and were submitted at most so long after it, or
    as long after it as six jobs take, where that is more."""


class Settings(_Strict):
    """Everything that a deployment of this service may choose."""

    data_dir: Path = Path("data")
    """Where jobs, inputs, videos and built-in models are kept; relative to where the service is started."""
    storage_url: str | None = None
    """A bucket, and a prefix in it, for machines that share no folder: `s3://bucket/wan22`, or gs:// or az://. Inputs,
    videos and snapshots are kept there; what lies in data_dir is a copy, or is worked on. Credentials come from the
    environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL where the store is not Amazon's."""
    models_dir: Path = Path("models")
    """Where models are made and fetched to; relative to data_dir."""
    cast_to_bf16: bool = False
    """Whether weights that come in fp32 are cast to bf16 as they are fetched: T2V-A14B's 126 GB become 69."""
    database_url: str | None = None
    """`postgresql://…`, or `sqlite:///PATH`; by default jobs.db in data_dir."""
    models: list[Annotated[ModelEntry, BeforeValidator(_entry)]] = Field(
        default=[ModelEntry(id="tiny-t2v"), ModelEntry(id="tiny-i2v"), ModelEntry(id="tiny-ti2v")], min_length=1
    )
    """What is served. The first of a type is what a request gets that names the type."""
    generator: GeneratorSettings = GeneratorSettings()
    scheduling: SchedulingSettings = SchedulingSettings()
    max_running_jobs: int = Field(default=1, ge=1)
    """Jobs that run at once, over all types: one for each GPU, or for each num_gpus of them."""
    ingress_replicas: int = Field(default=1, ge=1)
    """Processes that answer HTTP."""
    max_attempts: int = Field(default=3, ge=1)
    """How often a job is begun whose process dies, before it fails."""
    lease_seconds: float = Field(default=15, ge=1)
    """How long a job of a dead dispatcher waits until another takes it."""
    start_timeout_seconds: float = Field(default=600, gt=0)
    """How long a generator may take to begin a job."""
    max_upload_mb: float = Field(default=32, gt=0)
    """A request's body is read up to this size."""

    @field_validator("storage_url")
    @classmethod
    def _check_storage_url(cls, url: str | None) -> str | None:
        if url is not None and re.match("(s3|gs|az|abfss?)://[^/]", url) is None:
            raise ValueError("expected the URL of a bucket: s3://bucket/prefix, or gs:// or az://")
        return url

    def with_absolute_paths(self) -> "Settings":
        """The same from anywhere: data_dir resolved, database_url filled in.

        Raises:
            ConfigurationError: data_dir names the home of a user who is not there.
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
        """The catalogue's entries for `models`.

        Raises:
            ConfigurationError: one is not in the catalogue, is named twice, or its files are not there.
        """
        catalogue = load_catalogue()
        served: dict[str, ModelSpec] = {}
        for index, entry in enumerate(self.models):
            key = f"models[{index}]"
            known = entry.like or entry.id
            if known not in catalogue:
                raise ConfigurationError(
                    f"{key}: there is no model {known!r}; the catalogue has {', '.join(catalogue)}.", param=key
                )
            if entry.id in served:
                raise ConfigurationError(f"{key}: {entry.id!r} is named twice.", param=key)
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
                raise ConfigurationError(f"{key}: {model!r} is not among the models that are served.", param=key)
        return list(served.values())


def parse_settings(args: Mapping[str, Any]) -> Settings:
    """Reads `args:`.

    Raises:
        ConfigurationError: naming the first key that is wrong, and what it takes.
    """
    try:
        return Settings.model_validate(args)
    except ValidationError as exc:
        raise ConfigurationError(describe(exc)) from exc


def describe(error: ValidationError) -> str:
    """All that is wrong, a line each: `key: what`."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key.")
        else:
            lines.append(f"{key}: {item['msg']}, got {item['input']!r:.80}.")
    return "\n".join(lines)
