"""The typed `args:` of serve_config.yaml. Errors name every unknown key and every invalid value."""

import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from serve_app.settings.limits import LimitSettings
from serve_app.settings.sections import (
    GeneratorSettings,
    ModelEntry,
    PromptEnhancerSettings,
    RetentionSettings,
    SchedulingSettings,
    Strict,
    WebhookSettings,
    to_entry,
)
from wan22_bridge.catalogue import ModelSpec, SourceKind, load_catalogue
from wan22_bridge.errors import ConfigurationError, ModelMissing
from wan22_bridge.fetching.downloads import ensure_model
from wan22_bridge.fetching.lockfile import LOCK_NAME, apply_lock

GENERATOR_STARTS = 1_000_000_000
"""Number of consecutive failed starts after which Ray Serve gives up a generator's deployment for good. It is
practically unlimited, because the cause of a failed start may pass. Ray Serve's processes need the same number in the
environment variable RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT."""


class Settings(Strict):
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
    models_lock: Path | None = None
    """Lock file that `wan22 models lock` writes: it pins the commit and the file hashes of each downloaded model. The
    service then downloads and uses no other files. A relative path starts at `data_dir`. By default models.lock in
    `models_dir`, if that exists."""
    cast_to_bf16: bool = False
    """Whether downloaded fp32 weights are stored as bf16. T2V-A14B then takes 69 GB on disk instead of 126 GB."""
    database_url: str | None = None
    """Database for jobs: `postgresql://…` or `sqlite:///PATH`. By default the SQLite file jobs.db in `data_dir`."""
    models: list[Annotated[ModelEntry, BeforeValidator(to_entry)]] = Field(
        default=[ModelEntry(id="tiny-t2v"), ModelEntry(id="tiny-i2v"), ModelEntry(id="tiny-ti2v")], min_length=1
    )
    """Models to serve, each an id or a mapping. A request that names a type gets the first model of that type."""
    generator: GeneratorSettings = GeneratorSettings()
    """Settings of the generators, whose replicas run the jobs."""
    scheduling: SchedulingSettings = SchedulingSettings()
    """Limits on overtaking in the job queue."""
    prompt_enhancer: PromptEnhancerSettings | None = None
    """Language model that enhances prompts on request. By default prompts are enhanced by rules, without a model."""
    webhooks: WebhookSettings = WebhookSettings()
    """Receivers and signing secret of the webhooks that report the ends of jobs."""
    limits: LimitSettings = LimitSettings()
    """Limits on clients: requests, open connections, pending jobs, uploads, GPU time, and the size of videos."""
    retention: RetentionSettings = RetentionSettings()
    """Limits on the age and the size of stored data."""
    max_running_jobs: int = Field(default=1, ge=1)
    """Maximum number of jobs that run at the same time, over all model types. Set it to the number of GPUs, divided by
    `generator.num_gpus`."""
    allow_anonymous: bool | None = None
    """Whether requests need no API key. By default they need none if `http_options.host` is a loopback address, such as
    127.0.0.1, and a key otherwise. `false` asks for keys on a loopback address too, for a service behind a reverse
    proxy on the same machine. `true` lets everyone who reaches the port do everything."""
    ingress_replicas: int = Field(default=1, ge=1)
    """Number of processes that serve HTTP."""
    max_attempts: int = Field(default=3, ge=1)
    """Number of failed attempts without progress after which a job fails. An attempt fails if its process dies while
    the job computes, or if no generator begins the job within `start_timeout_seconds`. A snapshot after a later step
    than any before is progress and resets the count. The death of the process while it loads the model, and the death
    of the dispatcher or the machine, do not count, but five times as many interruptions of any kind without progress
    also fail the job."""
    lease_seconds: float = Field(default=15, ge=1)
    """Time after which a new dispatcher takes over the running jobs of a dispatcher that died."""
    start_timeout_seconds: float = Field(default=600, gt=0)
    """Time that a generator may take to start a job, including the start of its replica."""
    max_upload_mb: float = Field(default=32, gt=0)
    """Maximum size of a request's body in megabytes of 10^6 bytes. Larger requests are rejected."""
    max_lora_upload_mb: float = Field(default=4000, gt=0)
    """Maximum size of an uploaded LoRA in megabytes of 10^6 bytes."""
    fetch_urls: bool = False
    """Whether requests may name an input image or video by an http or https URL, from which the service downloads it.
    It connects to public addresses only. Whoever can submit a job then chooses servers to which the service connects.
    The limits are `max_upload_mb`, 30 seconds and 5 redirects."""
    cors_origins: list[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")]] = Field(default=[])
    """Origins of web pages on other hosts that may call the API from a browser, such as `https://studio.example`. `*`
    stands for all origins. By default none."""
    allowed_hosts: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$")]] = Field(default=[])
    """Host names by which browsers reach the service, such as `videos.example`. IP addresses, names without a dot and
    names that only a local network can have (such as `server.local`) are always allowed, and so are all names where API
    keys are needed. Behind a proxy, list the name that it forwards."""
    root_path: Annotated[str, Field(pattern=r"^((/[A-Za-z0-9._~-]+)+)?$")] = ""
    """Prefix that a reverse proxy removes from the path of each request, such as `/wan22`. Links and redirects begin
    with it."""
    trusted_proxies: list[str] = Field(default=[])
    """Addresses and networks of reverse proxies, such as `10.0.0.0/8`. Their `X-Forwarded-For`, `-Host`, `-Proto` and
    `-Prefix` headers are used; those of other clients are ignored. By default none."""

    @field_validator("trusted_proxies")
    @classmethod
    def _check_trusted_proxies(cls, items: list[str]) -> list[str]:
        for item in items:
            try:
                ip_network(item, strict=False)
            except ValueError:
                raise ValueError(f"{item!r} is neither an address nor a network, such as 10.0.0.0/8") from None
        return items

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
                "models_lock": self.models_lock and data_dir / self.models_lock.expanduser(),
                "database_url": self.database_url or f"sqlite:///{data_dir}/jobs.db",
            }
        )

    def needs_keys(self, host: str | None) -> bool:
        """Returns whether a service that listens on an address rejects requests without an API key."""
        if self.allow_anonymous is None:
            return not _is_loopback(host)
        return not self.allow_anonymous

    @property
    def lock_path(self) -> Path:
        """Path of the lock file, which need not exist."""
        return self.models_lock or self.models_dir / LOCK_NAME

    def served_models(self, *, locked: bool = True) -> list[ModelSpec]:
        """Returns the models to serve: the catalogue's entries with the changes that `models` makes.

        Args:
            locked: whether the lock file, if there is one, pins them.

        Raises:
            ConfigurationError: a model is not in the catalogue, is named twice, or its folder does not hold it; or
                `generator.preload` names a model that is not served; or the lock file does not hold a model as it is
                configured.
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
        specs = list(served.values())
        if locked and (self.models_lock is not None or self.lock_path.exists()):
            return apply_lock(self.lock_path, specs)
        return specs


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:  # a name, which may stand for any address
        return False


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
