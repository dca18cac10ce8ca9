"""Retention: how long the service keeps what it stores. Docs: docs/how-to/retention.md.

Everything that is removed because of its age or its size has its limit here, except copies of a bucket's objects
(`deployments.storage.bucket`) and interrupted uploads of LoRAs, which are removed after a day.
"""

from collections.abc import Collection
from dataclasses import dataclass

HOUR_SECONDS = 3600.0
DAY_SECONDS = 24 * HOUR_SECONDS

DELETED_SECONDS = 30 * DAY_SECONDS
"""Retention of the place of a deleted job, from which a listing with `after` continues."""
STATS_SECONDS = 7 * 24 * 3600
"""Retention of the machine's use, which the API shows for up to a week."""
AUDIT_SECONDS = 365 * DAY_SECONDS
"""Retention of the audit log."""
USAGE_SECONDS = 90 * DAY_SECONDS
"""Retention of the clients' daily use."""
NEW_INPUT_SECONDS = HOUR_SECONDS
"""Time for which a stored input is never removed, because a request that names it may still arrive."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """Limits on the age and the size of stored data. None is no limit.

    No limit removes what a pending or running job needs, nor a favorite.
    """

    video_seconds: float | None = None
    """Age of a completed job, since its end, at which the job is deleted with its video."""
    video_bytes: int | None = None
    """Size of all videos together, with the favorites, beyond which the oldest of the largest owners are deleted with
    their jobs."""
    video_bytes_per_owner: int | None = None
    """The same for the videos of each owner."""
    failed_job_seconds: float | None = None
    """Age of a failed or cancelled job, since its end, at which the job is deleted."""
    input_seconds: float | None = None
    """Age of an input that only ended jobs refer to, at which its file is removed."""
    upload_seconds: float = DAY_SECONDS
    """Age of an input that no job refers to, at which its file is removed."""
    input_bytes: int | None = None
    """Size of all inputs together, beyond which the oldest of the largest owners are removed: first those that no job
    refers to."""
    input_bytes_per_owner: int | None = None
    """The same for the inputs of each owner."""
    event_seconds: float = DAY_SECONDS
    """Age at which events are deleted."""
    webhook_seconds: float = 30 * DAY_SECONDS
    """Age at which webhooks that were delivered or have failed are deleted."""


def fair_share(sizes: Collection[int], limit: int) -> int:
    """Returns the size to which the largest sizes must shrink, so that the sum of all is at most the limit.

    Therefore an owner who stores much loses the owner's own data first, and not that of others.
    """
    left = limit
    for index, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - index)
        if size > share:
            return share
        left -= size
    return limit
