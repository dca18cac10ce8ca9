"""The services that the routes work with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ParamSpec, TypeVar, cast

from anyio import CapacityLimiter
from fastapi import Depends
from ray.serve.handle import DeploymentHandle
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from deployments.fitting import Fitting
from deployments.jobs.lora_library import LoraLibrary
from deployments.jobs.optimization_defaults import OptimizationDefaults
from deployments.jobs.outbox import JobEnds
from deployments.jobs.replica_registry import ReplicaRegistry
from deployments.jobs.service import JobService
from deployments.jobs.store import JobStore
from deployments.network.remote_files import RemoteFiles
from deployments.storage.disk import DiskSpace
from deployments.storage.opening import open_storage
from deployments.storage.protocol import Storage
from deployments.system_stats import SystemMeter
from deployments.webhooks.receivers import check_receiver
from serve_app.api.access.links import LinkSigner
from serve_app.api.http.slots import Slots
from serve_app.api.http.threads import run_to_end
from serve_app.api.schemas.webhooks import describe_job
from serve_app.settings import Settings
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import NotReady
from wan22_bridge.media.decoders import MAX_DECODERS, MAX_WAITING, busy
from wan22_bridge.models.prompt_tokens import PromptTokens

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_SHORT = 100
"""Number of jobs up to which a read of a local file is short: some milliseconds."""
_PATIENCE_SECONDS = 10.0
"""Time for which an operation on a bucket is retried while a client waits."""

_DECODER_THREADS = MAX_DECODERS + MAX_WAITING
"""Maximum number of threads that calls which decode files take."""
_WAITING_FILES = 64
"""Maximum number of requests that wait for one of these threads. Each of them holds its files in memory."""
_STREAMS = 500
"""Maximum number of open sockets, event streams and requests that wait for a video."""
_DOWNLOADS = 200
"""Maximum number of files that are being sent. Each of them takes up to half a megabyte while its client does not
read."""
_DOWNLOAD_THREADS = 16
"""Maximum number of threads that calls take which download an input from another server."""
_STORAGE_THREADS = 16
"""Maximum number of threads that operations on the storage take. All other handlers share forty threads."""


def job_ends(settings: Settings) -> JobEnds:
    """Returns the description and the receivers of the webhooks, for each process that ends jobs."""
    return JobEnds(describe=partial(describe_job, root_path=settings.root_path), urls=tuple(settings.webhooks.urls))


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """The database, the storage and the other deployments, as one ingress replica uses them."""

    settings: Settings
    store: JobStore
    storage: Storage
    jobs: JobService
    loras: LoraLibrary
    served: Sequence[ModelSpec]
    replicas: ReplicaRegistry
    fitting: Fitting
    meter: SystemMeter
    dispatcher: DeploymentHandle[Any]
    downloader: DeploymentHandle[Any]
    needs_keys: bool
    """Whether requests need an API key."""
    links: LinkSigner
    disk: DiskSpace
    """Free space of the data folder, which new data must leave."""
    decoder_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_DECODER_THREADS))
    download_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_DOWNLOAD_THREADS))
    storage_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_STORAGE_THREADS))
    streams: Slots = field(default_factory=lambda: Slots(_STREAMS, "streams and sockets", "streams_busy"))
    downloads: Slots = field(default_factory=lambda: Slots(_DOWNLOADS, "downloads", "downloads_busy"))

    @classmethod
    def open(
        cls,
        settings: Settings,
        dispatcher: DeploymentHandle[Any],
        downloader: DeploymentHandle[Any],
        *,
        needs_keys: bool = False,
    ) -> "Services":
        """Opens the database and the storage.

        Args:
            settings: settings with absolute paths.
            dispatcher: a handle of the dispatcher.
            downloader: a handle of the downloader.
            needs_keys: whether requests need an API key.
        """
        assert settings.database_url is not None
        store = JobStore(settings.database_url, job_ends=job_ends(settings))
        storage = open_storage(settings.data_dir, settings.storage_url, patience_seconds=_PATIENCE_SECONDS)
        disk = DiskSpace(settings.data_dir, settings.retention.min_free_bytes)
        served = settings.served_models()
        replicas = ReplicaRegistry(store.database)
        fitting = Fitting(replicas, served, settings.generator.plan_constraints(), storage.work.loras)
        if settings.generator.num_gpus:
            fitting.prepare()
        return cls(
            settings=settings,
            store=store,
            storage=storage,
            jobs=JobService(
                store,
                storage,
                served,
                prompt_tokens=PromptTokens(settings.models_dir),
                complete=lambda params: OptimizationDefaults.read(store.settings).fill(params),
                admit=fitting.admit,
                check_receiver=partial(check_receiver, allow_private=settings.webhooks.allow_private),
                remote_files=RemoteFiles(max_bytes=int(settings.max_upload_mb * 1e6)) if settings.fetch_urls else None,
                require_space=disk.require,
            ),
            fitting=fitting,
            meter=SystemMeter(replicas),
            loras=LoraLibrary(store, storage.work.loras, served),
            served=served,
            replicas=replicas,
            dispatcher=dispatcher,
            downloader=downloader,
            needs_keys=needs_keys,
            links=LinkSigner(store.settings),
            disk=disk,
        )

    async def read(self, read: Callable[[], Result], *, rows: int = 1) -> Result:
        """Runs a read of the database: a short one of a local file at once, others in a thread.

        A local read takes less time than the way into a thread and back. And as soon as a handler waits for something,
        Ray Serve's replica asks its proxy for the rest of the request, which costs both of them more than the read.

        Args:
            read: the read.
            rows: the maximum number of jobs that it reads.
        """
        if rows <= _SHORT and self.store.database.is_file:
            return read()
        return await run_in_threadpool(read)

    async def use_storage(
        self, call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Runs a call that uses the storage in one of the storage's threads, to its end even if the client disconnects.

        A slow bucket occupies these threads only. Further calls wait for one of them without a thread of their own.
        """
        return await run_to_end(partial(call, *args, **kwargs), self.storage_threads)

    async def use_decoders(
        self, call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Runs a call that may decode files and store them, in a thread that only such calls take.

        Files that wait for a decoder or a slow bucket hold up no other requests.

        Raises:
            NotReady: too many requests wait for such a thread.
        """
        waiting = self.decoder_threads.statistics().tasks_waiting
        if waiting >= _WAITING_FILES:
            raise busy(f"{waiting} requests wait already")
        return await run_to_end(partial(call, *args, **kwargs), self.decoder_threads)

    async def use_downloads(
        self, call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Runs a call that may download an input from another server, in a thread that only such calls take.

        Raises:
            NotReady: too many requests wait for such a thread.
        """
        waiting = self.download_threads.statistics().tasks_waiting
        if waiting >= _WAITING_FILES:
            raise NotReady(
                f"The service downloads too many inputs at once: {waiting} requests wait already.",
                code="fetches_busy",
                suggestions=["Send the request again in some seconds, or upload the file."],
            )
        return await run_to_end(partial(call, *args, **kwargs), self.download_threads)


async def services(connection: HTTPConnection) -> Services:
    """Returns the services of the application that serves a connection.

    FastAPI would run a function that is not a coroutine in a thread, for each request.
    """
    return cast(Services, connection.app.state.services)


Serving = Annotated[Services, Depends(services)]
"""Annotation of a route's argument that receives the services."""
