"""The application's builder: the only place that wires the parts together."""

from ray import serve

from deployments.dispatcher import Dispatcher, DispatcherConfig
from deployments.downloader import Downloader
from deployments.generator import Generator
from deployments.scheduling import Policy
from serve_app.ingress import Ingress
from serve_app.settings import Settings
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.types import ModelType

# No `from __future__ import annotations` here: Serve reads build_app's annotation to validate `args:`.

_INGRESS_SLOTS = 1000
"""Requests at once in one ingress replica: each socket, stream and download holds one for its whole time."""


def build_app(args: Settings) -> serve.Application:
    """Builds the application for `serve run serve_config.yaml`.

    Raises:
        ConfigurationError: a model that is to be served is unknown or not on this machine.
    """
    settings = args.with_absolute_paths()
    served = settings.served_models()
    downloader = serve.deployment(
        name="downloader",
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=100,
        graceful_shutdown_wait_loop_s=0.2,
    )(Downloader).bind(settings.data_dir / "models", served)
    types = list(dict.fromkeys(spec.type for spec in served))
    generators = {kind: _bind_generator(kind, settings, served, downloader) for kind in types}
    dispatcher = serve.deployment(
        name="dispatcher",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=100,
        graceful_shutdown_wait_loop_s=0.2,
    )(Dispatcher).bind(
        settings.database_url,
        settings.data_dir,
        DispatcherConfig(
            slots=settings.max_running_jobs,
            slots_by_type=dict.fromkeys(types, settings.generator.max_replicas),
            policy=Policy(
                age_seconds=settings.scheduling.age_seconds, patience_seconds=settings.scheduling.patience_seconds
            ),
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            start_timeout_seconds=settings.start_timeout_seconds,
        ),
        served,
        generators,
    )
    return serve.deployment(
        name="ingress",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=_INGRESS_SLOTS,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=10,
    )(Ingress).bind(settings, dispatcher)


def _bind_generator(
    kind: ModelType, settings: Settings, served: list[ModelSpec], downloader: serve.Application
) -> serve.Application:
    """The deployment of one model type: none to `max_replicas` replicas, one job each at a time."""
    options = settings.generator
    return serve.deployment(
        name=f"generator-{kind.value}",
        ray_actor_options={"num_cpus": options.num_cpus, "num_gpus": options.num_gpus},
        max_ongoing_requests=1,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=options.shutdown_timeout_seconds,
        autoscaling_config={
            "min_replicas": 0,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": 1,
            "upscale_delay_s": 0,
            "downscale_delay_s": options.keep_warm_seconds,
            "downscale_to_zero_delay_s": options.keep_warm_seconds,
            "metrics_interval_s": 1,
            "look_back_period_s": 3,
        },
    )(Generator).bind(
        settings.database_url,
        settings.data_dir,
        [spec for spec in served if spec.type is kind],
        downloader,
        options.checkpoint_interval_seconds,
        options.preview_interval_seconds,
        options.wishes(),
    )
