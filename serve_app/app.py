"""The builder of the Ray Serve application: the only place that connects the deployments."""

from ray import serve

from deployments.dispatch.config import DispatcherConfig
from deployments.dispatch.dispatcher import Dispatcher
from deployments.downloader import Downloader
from deployments.generation.generator import Generator, GeneratorConfig
from deployments.scheduling.policy import Policy
from deployments.webhooks.lane import WebhookConfig
from serve_app.api.services import job_ends
from serve_app.ingress import Ingress
from serve_app.settings import GENERATOR_STARTS, Settings
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.types import ModelType

# No `from __future__ import annotations` here: Serve reads build_app's annotation to validate `args:`.

_INGRESS_SLOTS = 2000
"""Maximum number of concurrent requests in an ingress replica. Streams, sockets, downloads and uploads have limits of
their own, which together are far below."""
_INGRESS_ENVIRONMENT = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}
"""Environment variables of the ingress replicas. The application shares the event loop of the HTTP server, so that it
waits while a client does not read. Between two threads, Ray Serve would take each response into memory at once."""
_STARTS = 3
"""Number of consecutive failed starts after which Ray Serve gives up a deployment other than a generator. It is low,
because the service can't work without these deployments."""
_REPORTS_PER_SECOND = 128
"""Maximum number of autoscaling reports per second that all replicas together send to Serve's controller."""


def build_app(args: Settings) -> serve.Application:
    """Builds the application for `serve run serve_config.yaml`.

    Raises:
        ConfigurationError: a model in the settings is unknown, or its folder does not hold it.
        NotReady: the environment has no secret for webhooks, although the settings name a variable for it.
    """
    settings = args.with_absolute_paths()
    served = settings.served_models()
    downloader = serve.deployment(
        name="downloader",
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=100,
        max_constructor_retry_count=_STARTS,
        graceful_shutdown_wait_loop_s=0.2,
    )(Downloader).bind(settings.models_dir, served, settings.cast_to_bf16)
    generators = _bind_generators(settings, served, downloader)
    dispatcher = serve.deployment(
        name="dispatcher",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=100,
        max_constructor_retry_count=_STARTS,
        graceful_shutdown_wait_loop_s=0.2,
    )(Dispatcher).bind(
        settings.database_url,
        settings.data_dir,
        settings.storage_url,
        DispatcherConfig(
            slots=settings.max_running_jobs,
            loaded_models=settings.generator.loaded_models,
            shared=settings.generator.shared,
            policy=Policy(
                age_seconds=settings.scheduling.age_seconds, patience_seconds=settings.scheduling.patience_seconds
            ),
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            start_timeout_seconds=settings.start_timeout_seconds,
            job_ends=job_ends(settings),
            webhooks=WebhookConfig(
                allow_private=settings.webhooks.allow_private, secret=settings.webhooks.configured_secret()
            ),
            retention=settings.retention.to_retention(),
            min_free_bytes=settings.retention.min_free_bytes,
        ),
        served,
        generators,
        downloader,
    )
    return serve.deployment(
        name="ingress",
        num_replicas=settings.ingress_replicas,
        ray_actor_options={"num_cpus": 0.1, "runtime_env": {"env_vars": _INGRESS_ENVIRONMENT}},
        max_ongoing_requests=_INGRESS_SLOTS,
        max_constructor_retry_count=_STARTS,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=10,
    )(Ingress).bind(settings, dispatcher, downloader)


def _bind_generators(
    settings: Settings, served: list[ModelSpec], downloader: serve.Application
) -> dict[ModelType, serve.Application]:
    """Returns the generator of each model type; with `generator.shared`, all types have the same."""
    types = list(dict.fromkeys(spec.type for spec in served))
    if settings.generator.shared:
        return dict.fromkeys(types, _bind_generator("generator", settings, served, downloader))
    return {
        kind: _bind_generator(
            f"generator-{kind.value}", settings, [spec for spec in served if spec.type is kind], downloader
        )
        for kind in types
    }


def _bind_generator(
    name: str, settings: Settings, served: list[ModelSpec], downloader: serve.Application
) -> serve.Application:
    """Returns a deployment that generates with some of the models, one job at a time in each replica."""
    options, slots = settings.generator, settings.max_running_jobs
    preload = [spec.id for spec in served if spec.id in options.preload]
    return serve.deployment(
        name=name,
        ray_actor_options={"num_cpus": options.num_cpus, "num_gpus": options.num_gpus},
        max_ongoing_requests=1,
        max_constructor_retry_count=GENERATOR_STARTS,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=options.shutdown_timeout_seconds,
        # The application's policy, FollowDemand, decides the number of replicas for all deployments together. It reads
        # these numbers. The delays are 0 so that Serve does not postpone its decisions.
        autoscaling_config={
            "min_replicas": 0,
            "initial_replicas": int(bool(preload)),
            "max_replicas": slots,
            "target_ongoing_requests": 1,
            "upscale_delay_s": 0,
            "downscale_delay_s": 0,
            "downscale_to_zero_delay_s": 0,
            "metrics_interval_s": max(0.2, slots / _REPORTS_PER_SECOND),
            "look_back_period_s": max(1.0, 2 * slots / _REPORTS_PER_SECOND),
        },
    )(Generator).bind(
        settings.database_url,
        settings.data_dir,
        settings.storage_url,
        served,
        downloader,
        GeneratorConfig(
            loaded_models=options.loaded_models,
            preload=preload,
            all_models=[entry.id for entry in settings.models],
            checkpoint_interval_seconds=options.checkpoint_interval_seconds,
            preview_interval_seconds=options.preview_interval_seconds,
            hang_seconds=options.hang_seconds,
            constraints=options.plan_constraints(),
        ),
    )
