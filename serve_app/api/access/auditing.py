"""The audit log of requests: what administrators change, and what they do to the jobs of other owners."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.jobs.api_keys import Scope as KeyScope
from deployments.jobs.store import JobStore
from serve_app.api.access.callers import Caller
from wan22_bridge.errors import NotFound

logger = logging.getLogger("ray.serve")

_FOR_ALL = ("reorder_queue", "clear_queue")
"""Operations on the jobs of all owners that every key may do to its own jobs."""

_UNRECORDED = ("read_audit_log", "list_keys", "read_dashboard")
"""Operations of administrators that change nothing, and that a page repeats."""
_RECORDED_WITH_CHANGE = ("create_key", "revoke_key", "rotate_key")
"""Operations whose entry is written in the transaction of the change, if they succeed."""


_CANCELLED = 499
"""Status in place of that of a response which no client waits for any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """The entry of a request that has not been answered yet."""

    action: str
    target: str
    details: dict[str, Any]


class Audit:
    """Decides which requests of administrators the log gets, and writes them."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    async def find_entry(self, scope: Scope, needed: KeyScope) -> Entry | None:
        """Returns the entry of an administrator's request, or None for one that changes the caller's own things only.

        Args:
            scope: the request, after its route was found.
            needed: the scope that the route needs.
        """
        caller: Caller = scope["state"]["caller"]
        entry = Entry(action=scope["endpoint"].__name__, target=scope["path"], details={})
        if entry.action in _UNRECORDED:
            return None
        if needed is KeyScope.ADMIN or (entry.action in _FOR_ALL and caller.key_id is not None):
            return entry
        names = scope["path_params"]
        owner = await run_in_threadpool(self._find_owner, names) if names else None
        if owner is None or owner == caller.owner:
            return None
        entry.details["owner"] = owner
        return entry

    async def record(self, caller: Caller, entry: Entry, status: int) -> None:
        """Writes an entry, with the status of the response."""
        result = "ok" if status < 400 else "cancelled" if status == _CANCELLED else f"HTTP {status}"
        details = entry.details | caller.notes
        if result != "ok" or entry.action not in _RECORDED_WITH_CHANGE:
            await run_in_threadpool(
                self._store.audit.record, caller.actor, entry.action, entry.target, details=details, result=result
            )
        logger.info(
            "Admin action %s on %r by the key %s of %s: %s",
            entry.action,
            entry.target,
            caller.key_id,
            caller.owner,
            result,
            extra={"action": "admin_action", "operation": entry.action, "target": entry.target}
            | {"key_id": caller.key_id, "owner": caller.owner},
        )

    def _find_owner(self, names: dict[str, str]) -> str | None:
        """Returns the owner of what the path names; None if it does not exist, or the path names nothing."""
        try:
            if job_id := names.get("task_id") or names.get("video_id"):
                return self._store.reader.get(job_id).owner
            if batch_id := names.get("batch_id"):
                return self._store.batches.find(batch_id).jobs[0].owner
            if webhook_id := names.get("webhook_id"):
                return self._store.deliveries.get(webhook_id).owner
        except NotFound:
            pass
        return None


class Auditing:
    """ASGI middleware that writes the entry of a request before the response begins."""

    def __init__(self, app: ASGIApp, audit: Audit) -> None:
        self._app, self._audit = app, audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application, and records the request if its route has asked for that."""
        caller = scope.get("state", {}).get("caller") if scope["type"] == "http" else None
        if caller is None or not caller.is_admin:
            await self._app(scope, receive, send)
            return

        async def record(status: int) -> None:
            entry: Entry | None = scope["state"].pop("audited", None)
            if entry is not None:
                await self._audit.record(caller, entry, status)

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                await record(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_recorded)
        except asyncio.CancelledError:
            # The client is gone, and Ray Serve ends the request. The handler's thread completes the change.
            await asyncio.shield(asyncio.ensure_future(record(_CANCELLED)))
            raise
        except Exception:
            await record(500)
            raise
