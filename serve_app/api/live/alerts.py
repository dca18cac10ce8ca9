"""Alerts: conditions of the service that an operator should know."""

import asyncio
import shutil
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from starlette.concurrency import run_in_threadpool

from serve_app.api.live.messages import Message
from serve_app.api.services import Services

_ANSWER_SECONDS = 5.0
_FULL_SHARE, _FULL_BYTES = 0.05, 20e9
"""A disk is nearly full if less than this share of it is free, and less than this number of bytes."""


async def read_alerts(services: Services) -> dict[str, Message]:
    """Returns the present alerts by their ids. An alert that is no longer returned has ended."""
    found = [*await _check_dispatcher(services), *await run_in_threadpool(_check_disk, services)]
    return {alert["id"]: ("alert", alert) for alert in found}


async def _check_dispatcher(services: Services) -> list[dict[str, Any]]:
    try:
        await asyncio.wait_for(services.dispatcher.check_health.remote(), _ANSWER_SECONDS)
    except (RayError, RayServeException, TimeoutError):
        return [
            _alert(
                "dispatcher_unavailable",
                "error",
                "The dispatcher does not respond: no job starts until Ray Serve has replaced it.",
                "Look for errors of the dispatcher in the service's log, if this lasts longer than a minute.",
            )
        ]
    return []


def _check_disk(services: Services) -> list[dict[str, Any]]:
    usage = shutil.disk_usage(services.settings.data_dir)
    if usage.free >= min(_FULL_SHARE * usage.total, _FULL_BYTES):
        return []
    return [
        _alert(
            "disk_nearly_full",
            "warning",
            f"The data folder's disk is nearly full: {usage.free / 1e9:.1f} of {usage.total / 1e9:.0f} GB are free.",
            "Delete videos that nobody needs, or move data_dir to a larger disk.",
        )
    ]


def _alert(code: str, level: str, message: str, suggestion: str) -> dict[str, Any]:
    return {
        "id": code,
        "level": level,
        "code": code,
        "message": message,
        "suggestions": [suggestion],
        "task_id": None,
        "active": True,
    }
