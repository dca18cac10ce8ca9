"""The dispatcher's configuration."""

from dataclasses import dataclass

from deployments.jobs.outbox import JobEnds
from deployments.jobs.retention import Retention
from deployments.scheduling.policy import Policy
from deployments.webhooks.lane import WebhookConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatcherConfig:
    """Settings of the dispatcher."""

    slots: int
    """Number of jobs that may run at once."""
    loaded_models: int
    """Number of models that a generator's replica keeps loaded."""
    shared: bool
    """Whether one deployment generates for all model types."""
    policy: Policy
    lease_seconds: float
    """A job whose lease was not renewed for this long is claimed by another dispatcher."""
    max_attempts: int
    """A job fails after this many failed attempts without progress; see `deployments.jobs.attempts`."""
    start_timeout_seconds: float
    """Limit on the time until a generator begins a claimed job, including the start of a replica."""
    job_ends: JobEnds
    """Description and receivers of the webhooks that report the ends of jobs."""
    webhooks: WebhookConfig
    """Settings of the deliverer of webhooks."""
    retention: Retention
    """Limits on the age and the size of stored data."""
    min_free_bytes: int
    """Free space on the disk of the data folder below which no job starts."""
