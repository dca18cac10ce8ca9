"""The outbox: webhooks are stored in the transaction that ends a job, so that none is lost and none is invented."""

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert

from deployments.jobs.database import Database
from deployments.jobs.job import Job
from deployments.jobs.schema import webhook_deliveries


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnds:
    """Description and receivers of the webhooks that report the ends of jobs."""

    describe: Callable[[Job], dict[str, Any]]
    """Returns a job as the native API describes it, serializable as JSON."""
    urls: tuple[str, ...] = ()
    """Receivers of the ends of all jobs. The operator trusts them, so they may have private addresses."""


class Outbox:
    """Stores the webhooks of the ends of jobs."""

    def __init__(self, database: Database, clock: Callable[[], float], ends: JobEnds | None) -> None:
        self._database, self._clock, self._ends = database, clock, ends

    def append(self, connection: Connection, job: Job) -> None:
        """Stores the webhooks of an ended job, one for each receiver, in the transaction that ended it."""
        if self._ends is None:
            return
        trusted_by_url = dict.fromkeys(self._ends.urls, True)
        if job.webhook_url is not None:
            trusted_by_url.setdefault(job.webhook_url, False)
        if not trusted_by_url:
            return
        now = self._clock()
        ended_at = now if job.completed_at is None else job.completed_at
        kind = f"video.{job.state.value}"
        payload = {"type": kind, "timestamp": _format_time(ended_at), "data": self._ends.describe(job)}
        text = json.dumps(payload, separators=(",", ":"))
        rows = [
            {
                "id": f"msg_{secrets.token_hex(12)}",
                "job_id": job.id,
                "owner": job.owner,
                "url": url,
                "receiver": _receiver(url),
                "trusted": trusted,
                "type": kind,
                "payload": text,
                "state": "pending",
                "attempts": 0,
                "created_at": now,
            }
            for url, trusted in trusted_by_url.items()
        ]
        connection.execute(insert(webhook_deliveries).values(next_attempt_at=self._database.now()), rows)


def _receiver(url: str) -> str:
    """Returns the host and port of a URL. It accepts any text, because it must not keep a job from ending."""
    found = re.match("[a-z]+://([^/?#]*)", url, re.IGNORECASE)
    return found[1][:300].lower() if found else ""


def _format_time(seconds: float) -> str:
    """Returns a time in seconds since the epoch in the form of ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
