"""Health of the service: checks of its parts, which the readiness, the alerts and the health report share."""

import asyncio
import shutil
from dataclasses import dataclass
from typing import Literal

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from serve_app.api.services import Services

DATABASE_UNAVAILABLE = "database_unavailable"
"""Code of the problem that no query of the database can be answered."""

_ANSWER_SECONDS = 5.0
_FULL_SHARE, _FULL_BYTES = 0.05, 20e9
"""A disk is nearly full if less than this share of it is free, and less than this number of bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A condition of the service that an operator should know."""

    code: str
    level: Literal["warning", "error"]
    """`error` if no job can run, `warning` if jobs still run."""
    message: str
    suggestion: str


async def find_problems(services: Services) -> list[Problem]:
    """Returns the present problems, the most severe first; empty if all parts of the service work."""
    database = await check_database(services)
    dispatcher = await check_dispatcher(services)
    deployments = None if dispatcher else await _check_deployments(services)
    disk = await run_in_threadpool(_check_disk, services)
    return [problem for problem in (database, dispatcher, deployments, disk) if problem is not None]


async def check_database(services: Services) -> Problem | None:
    """Returns a problem if the database does not answer."""
    try:
        await asyncio.wait_for(run_in_threadpool(services.store.database.ping), _ANSWER_SECONDS)
    except (SQLAlchemyError, OSError):  # TimeoutError is an OSError
        return Problem(
            code=DATABASE_UNAVAILABLE,
            level="error",
            message="The database can't be reached.",
            suggestion="Check that the server of database_url runs, or that the disk of data_dir can be written.",
        )
    return None


async def check_dispatcher(services: Services) -> Problem | None:
    """Returns a problem if the dispatcher does not answer."""
    try:
        await asyncio.wait_for(services.dispatcher.check_health.remote(), _ANSWER_SECONDS)
    except (RayError, RayServeException, TimeoutError):
        return Problem(
            code="dispatcher_unavailable",
            level="error",
            message="The dispatcher does not respond: no job starts until Ray Serve has replaced it.",
            suggestion="Look for errors of the dispatcher in the service's log, if this lasts longer than a minute.",
        )
    return None


async def _check_deployments(services: Services) -> Problem | None:
    try:
        names = await asyncio.wait_for(services.dispatcher.unhealthy_deployments.remote(), _ANSWER_SECONDS)
    except (RayError, RayServeException, TimeoutError):
        return None  # `check_dispatcher` reports it, if it lasts
    if not names:
        return None
    return Problem(
        code="replicas_failing",
        level="warning",
        message=f"Replicas of {', '.join(names)} died or failed to start: Ray Serve starts new ones.",
        suggestion="Look for their errors in the service's log, if this lasts longer than a minute.",
    )


def _check_disk(services: Services) -> Problem | None:
    try:
        usage = shutil.disk_usage(services.settings.data_dir)
    except OSError as exc:
        return Problem(
            code="data_folder_unavailable",
            level="error",
            message=f"The data folder can't be read: {exc.strerror}.",
            suggestion="Check that data_dir exists and that its disk is mounted.",
        )
    if services.disk.is_short:
        needed_gb = services.settings.retention.min_free_gb
        return Problem(
            code="disk_full",
            level="error",
            message=f"New jobs are rejected and no job starts: {usage.free / 1e9:.2f} GB of the data folder's disk are "
            f"free, and {needed_gb:g} GB are needed.",
            suggestion="Delete videos that nobody needs, set limits under retention: and run `wan22 clean`, or move "
            "data_dir to a larger disk.",
        )
    if usage.free >= min(_FULL_SHARE * usage.total, _FULL_BYTES):
        return None
    return Problem(
        code="disk_nearly_full",
        level="warning",
        message=f"The data folder's disk is nearly full: {usage.free / 1e9:.1f} of {usage.total / 1e9:.0f} GB are "
        "free.",
        suggestion="Delete videos that nobody needs, or move data_dir to a larger disk.",
    )
