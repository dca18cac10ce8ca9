"""Calls of the downloader, and the state of the models' files and replicas."""

import asyncio
from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from starlette.concurrency import run_in_threadpool

from deployments.downloader import Availability
from deployments.jobs.replica_registry import ReplicaInfo
from serve_app.api.schemas.models import ModelStatus
from serve_app.api.services import Services
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import DownloadFailed, NotReady, Wan22Error

_ANSWER_SECONDS = 10.0
"""Timeout of calls to the downloader."""


async def look(serving: Services) -> tuple[dict[str, Availability], list[ReplicaInfo]]:
    """Returns the availability of all served models by their ids, and the live replicas.

    Raises:
        NotReady: the downloader does not respond.
    """
    found: dict[str, Availability] = await ask(serving.downloader.availability.remote())
    return found, await run_in_threadpool(serving.replicas.all)


async def read_statuses(serving: Services, specs: Sequence[ModelSpec]) -> dict[str, ModelStatus]:
    """Returns the statuses of models by their ids.

    Raises:
        NotReady: the downloader does not respond.
    """
    found, replicas = await look(serving)
    # In a thread, because the first check of a GPU imports torch.
    fitting = await run_in_threadpool(lambda: {spec.id: serving.fitting.fit_smallest(spec) for spec in specs})
    return {spec.id: ModelStatus.of(spec, found[spec.id], replicas, fitting[spec.id]) for spec in specs}


async def ask(answer: Any, *, seconds: float | None = _ANSWER_SECONDS) -> Any:
    """Returns the downloader's response to a call.

    Raises:
        NotReady: the downloader does not respond.
        Wan22Error: the downloader raised this error.
    """
    try:
        return await asyncio.wait_for(answer, seconds)
    except RayTaskError as exc:
        if isinstance(exc.cause, Wan22Error):
            raise exc.cause from exc
        raise DownloadFailed("The downloader failed unexpectedly. The service's log has the details.") from exc
    except (RayError, RayServeException, TimeoutError) as exc:
        raise NotReady("The downloader does not respond.", code="downloader_unavailable") from exc
