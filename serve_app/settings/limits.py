"""The section `limits:` of the settings."""

from pydantic import Field

from deployments.jobs.limits import ClientLimits


class LimitSettings(ClientLimits):
    """Limits on each client, and on all clients together. `null` removes a limit.

    A key's own limits, which `wan22 keys create --limit` sets, take the place of these. Keys with the scope `admin`
    have no limits other than their own and `pending_jobs_overall`.
    """

    pending_jobs_overall: int | None = Field(default=10_000, ge=1)
    """Maximum number of pending jobs of all clients together. Further jobs are rejected with 503."""
