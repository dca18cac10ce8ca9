"""Bodies of the responses about the use of the service."""

import datetime

from pydantic import BaseModel, ConfigDict, Field

from deployments.jobs.limits import Account, ClientLimits
from deployments.jobs.usage import DAY_SECONDS, DayOfUse, day_of
from serve_app.api.schemas.links import to_datetime


class UseOfDay(BaseModel):
    """Use of the service by a client on a day."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    day: datetime.date
    """The day, which begins and ends at 00:00 UTC."""
    client: str
    """Name of the owner; where keys are off, `address:` and the address."""
    gpu_seconds: float
    """Time for which generators worked for the client's jobs, in seconds. A running job's time is added every few
    seconds."""
    uploads: int
    """Number of stored files: uploads, LoRAs, and inputs that came with a request, by a URL, or from a video."""
    upload_bytes: int
    """Size of these files together."""


class UsageBody(BaseModel):
    """The caller's limits, and the use of the service."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    client: str
    """The client to whom the caller's requests are charged: the owner; where keys are off, the address."""
    limits: ClientLimits
    """The limits on the caller. A limit that is null does not exist."""
    pending_jobs: int
    """Number of the client's pending jobs."""
    resets_at: datetime.datetime
    """Time at which the counts of the day begin again."""
    days: list[UseOfDay] = Field(description="The days with use, newest first. An administrator gets all clients.")

    @classmethod
    def of(cls, account: Account, *, pending_jobs: int, now: float, days: list[DayOfUse]) -> "UsageBody":
        """Describes the use.

        Args:
            account: the caller's account.
            pending_jobs: number of the client's pending jobs.
            now: the database's time.
            days: the use that the caller may see.
        """
        return cls(
            client=account.client,
            limits=ClientLimits(**{name: getattr(account.limits, name) for name in ClientLimits.model_fields}),
            pending_jobs=pending_jobs,
            resets_at=to_datetime((day_of(now) + 1) * DAY_SECONDS),
            days=[
                UseOfDay(
                    day=to_datetime(each.day * DAY_SECONDS).date(),
                    client=each.client,
                    gpu_seconds=round(each.gpu_seconds, 3),
                    uploads=each.uploads,
                    upload_bytes=each.upload_bytes,
                )
                for each in days
            ],
        )
