"""The native API's route for the audit log."""

from typing import Annotated

from fastapi import APIRouter, Query

from serve_app.api.access.callers import Administering
from serve_app.api.schemas.audit import AuditedAction, AuditPage
from serve_app.api.services import Serving

router = APIRouter(prefix="/api/v1/audit", tags=["system"])


@router.get("")
def read_audit_log(
    serving: Serving,
    caller: Administering,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditPage:
    """Returns what administrators have changed, newest first.

    `before` is the number of the last entry of the previous page. Entries are kept for a year.
    """
    found = serving.store.audit.page(before=before, limit=limit + 1)
    return AuditPage(actions=[AuditedAction.of(entry) for entry in found[:limit]], has_more=len(found) > limit)
