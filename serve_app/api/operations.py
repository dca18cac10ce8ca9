"""Health checks: liveness and readiness."""

from fastapi import APIRouter

from serve_app.api.health import check_database, check_dispatcher
from serve_app.api.services import Serving
from wan22_bridge.errors import NotReady

router = APIRouter(tags=["operations"])


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
    for check in (check_database, check_dispatcher):
        problem = await check(serving)
        if problem is not None:
            raise NotReady(problem.message, code=problem.code, suggestions=[problem.suggestion])
    return {"status": "ready"}
