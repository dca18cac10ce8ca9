"""Health checks: liveness and readiness."""

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
async def check_process() -> dict[str, str]:
    """Responds as soon as the process runs."""
    return {"status": "ok"}


@router.get("/readyz")
@router.get("/health", operation_id="check_health")
async def check_readiness(serving: Serving) -> dict[str, str]:
    """Responds 200 if the database can be reached and the dispatcher is alive, else 503 with the reason.

    `/health` and `/readyz` are the same.
    """
    try:
        await asyncio.wait_for(run_in_threadpool(serving.store.database.ping), _ANSWER_SECONDS)
    except TimeoutError as exc:
        raise NotReady("The database can't be reached.", code="database_unavailable") from exc
    try:
        await asyncio.wait_for(serving.dispatcher.check_health.remote(), _ANSWER_SECONDS)
    except (RayError, RayServeException, TimeoutError) as exc:
        raise NotReady("The dispatcher does not respond.", code="dispatcher_unavailable") from exc
    return {"status": "ready"}
