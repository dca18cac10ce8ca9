"""The native API's route about the use of the service by its clients."""

from typing import Annotated

from fastapi import APIRouter, Query

from deployments.jobs.api_keys import Scope
from serve_app.api.access.callers import Reading
from serve_app.api.schemas.usage import UsageBody
from serve_app.api.services import Serving

router = APIRouter(prefix="/api/v1", tags=["usage"])

_MAX_DAYS = 90


@router.get("/usage")
def read_usage(
    serving: Serving,
    caller: Reading,
    days: Annotated[int, Query(ge=1, le=_MAX_DAYS, description="Number of days, with today.")] = 1,
) -> UsageBody:
    """Returns the caller's limits, and the use of the service on the last days: GPU time, files and bytes.

    An administrator gets the use of all clients. Where keys are off, everyone gets the use of their own address only.
    """
    sees_all = caller.key_id is not None and Scope.ADMIN in caller.scopes
    usage, client = serving.store.usage, caller.account.client
    return UsageBody.of(
        caller.account,
        pending_jobs=usage.count_pending(client),
        now=usage.now(),
        days=usage.read(days=days, client=None if sees_all else client),
    )
