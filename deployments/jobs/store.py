"""The job store, which holds the truth about all jobs."""

import time
from collections.abc import Callable

from deployments.jobs.api_keys import ApiKeys
from deployments.jobs.audit import AuditLog
from deployments.jobs.batches import JobBatches
from deployments.jobs.database import Database
from deployments.jobs.deliveries import Deliveries
from deployments.jobs.downloads import Downloads
from deployments.jobs.events import EventLog
from deployments.jobs.expiry import JobExpiry
from deployments.jobs.input_owners import InputOwners
from deployments.jobs.outbox import JobEnds, Outbox
from deployments.jobs.queue import JobQueue
from deployments.jobs.reading import JobReader
from deployments.jobs.running import JobRunner
from deployments.jobs.snapshots import SnapshotReader
from deployments.jobs.stats_history import StatsHistory
from deployments.jobs.stored_settings import StoredSettings
from deployments.jobs.usage import Usage
from deployments.jobs.videos import Videos
from deployments.jobs.wait_history import WaitHistory
from deployments.jobs.writing import JobWriter


class JobStore:
    """Opens a job database and holds the objects that read and write it."""

    def __init__(
        self,
        url: str,
        *,
        migrate: bool = True,
        clock: Callable[[], float] = time.time,
        database_clock: Callable[[], float] | None = None,
        job_ends: JobEnds | None = None,
    ) -> None:
        """Opens the database.

        Args:
            url: `sqlite:///PATH` or `postgresql://…`.
            migrate: whether to bring the schema up to date now. Without that, the first query connects.
            clock: returns the time in seconds since the epoch, for the times that clients see and for retention.
            database_clock: takes the place of the database's own clock, by which leases and heartbeats are compared.
            job_ends: description and receivers of the webhooks that report the ends of jobs. A process that ends jobs
                needs it; without it, the ends that this store writes send no webhooks.

        Raises:
            ConfigurationError: the URL does not name a supported database.
        """
        self.database = Database(url, migrate=migrate, clock=database_clock)
        self.events = EventLog(self.database, clock, Outbox(self.database, clock, job_ends))
        self.reader = JobReader(self.database)
        """Queries over all jobs."""
        self.writer = JobWriter(self.database, self.events, clock)
        """Writes to jobs that do not run: submission, cancellation, reordering, retries, deletion."""
        self.runner = JobRunner(self.database, self.events, clock)
        """Writes to running jobs: claims, leases, progress and ends."""
        self.downloads = Downloads(self.database, self.events, clock)
        """Downloads of models for which jobs wait."""
        self.queue = JobQueue(self.database, self.events)
        """The queue as its users see it: listings with positions, counts, the pause and the clearing."""
        self.batches = JobBatches(self.database, self.events, clock)
        """The jobs that one request made, read and cancelled together."""
        self.videos = Videos(self.database, self.events, clock)
        """Completed videos: searched lists, favorites, tags, and deletion with undo."""
        self.snapshots = SnapshotReader(self.database, clock)
        """The present state of the jobs, with its place in the event log."""
        self.stats = StatsHistory(self.database, clock)
        """The use of the machine over the last days."""
        self.waits = WaitHistory(self.database, clock)
        """The length of the queue and the waiting times over the last days."""
        self.settings = StoredSettings(self.database)
        """Settings that change while the service runs."""
        self.deliveries = Deliveries(self.database, clock)
        """Webhooks to deliver, and those that were delivered or have failed."""
        self.keys = ApiKeys(self.database, clock)
        """API keys, with their owners and scopes."""
        self.audit = AuditLog(self.database, clock)
        """What administrators have changed."""
        self.input_owners = InputOwners(self.database, clock)
        """Owners of uploads and of other stored inputs, and the jobs that use them."""
        self.usage = Usage(self.database)
        """Use of the service by each client and day, and the limits on it."""
        self.expiry = JobExpiry(self.database, clock)
        """Ended jobs that are old enough, or whose videos are large enough, to be deleted."""
