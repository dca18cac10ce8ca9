"""Whether the service is up, and whether it can work."""

import asyncio

from fastapi import APIRouter
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from starlette.concurrency import run_in_threadpool

from serve_app.api.services import Serving
from wan22_bridge.errors import NotReady

router = APIRouter(tags=["operations"])

_ANSWER_SECONDS = 5.0


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is up."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(serving: Serving) -> dict[str, str]:
    """The database answers and the dispatcher is alive; 503 with the reason while not."""
    try:
        await asyncio.wait_for(run_in_threadpool(serving.store.database.ping), _ANSWER_SECONDS)
    except TimeoutError as exc:
        raise NotReady("The database does not answer.", code="database_unavailable") from exc
    try:
        await asyncio.wait_for(serving.dispatcher.check_health.remote(), _ANSWER_SECONDS)
    except (RayError, RayServeException, TimeoutError) as exc:
        raise NotReady("The dispatcher does not answer.", code="dispatcher_unavailable") from exc
    return {"status": "ready"}
