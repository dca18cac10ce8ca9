"""Ending one claim of a job: in the store first, then in the storage."""

from typing import Any

from deployments.jobs.attempts import Interruption
from deployments.jobs.generation_mode import GenerationMode
from deployments.jobs.job import Job, JobNotFound, JobState
from deployments.jobs.store import JobStore
from deployments.messages import Completed, Failed, Message, Preempted
from deployments.storage.keys import output_key
from deployments.storage.protocol import Storage
from wan22_bridge.errors import DiskFull


class ClaimEnding:
    """Writes the end of a claim and removes the files that nobody needs afterwards.

    The methods block. Each may be repeated when the database does not answer, because it writes to the store first.
    """

    def __init__(self, job: Job, store: JobStore, storage: Storage, *, max_attempts: int) -> None:
        self.outcome = "interrupted"
        """The claim's outcome for the metrics."""
        self.timings: dict[str, float] = {}
        """The seconds of each stage, if the job was completed."""
        self._job = job
        self._store, self._storage = store, storage
        self._max_attempts = max_attempts

    def end(self, message: Message) -> None:
        """Ends the claim as the generator's last message says.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        job_id, token, runner = self._job.id, self._job.fencing_token, self._store.runner
        if isinstance(message, Completed):
            runner.complete(job_id, token, output=message.output, result=message.result)
            self.outcome, self.timings = "completed", message.result.get("timings", {})
            self._storage.remove_outputs(job_id, keep=message.output["folder"])
        elif isinstance(message, Preempted):
            runner.release(job_id, token)
            self.outcome = "yielded"  # dashboards know this name
            self._storage.remove_claim(job_id, token)
        elif isinstance(message, Failed) and message.error.get("code") == DiskFull.default_code:
            self.give_back(Interruption.DISK_FULL, message.error)
        elif isinstance(message, Failed):
            self._fail(message.error)
            self.outcome = "failed"
        else:
            runner.mark_cancelled(job_id, token)
            self.outcome = "cancelled"
            self._storage.remove_outputs(job_id)

    def release(self) -> None:
        """Puts the job back into the queue without counting an attempt. Its files stay for the next claim.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        self._store.runner.release(self._job.id, self._job.fencing_token)

    def give_back(self, how: Interruption, cause: dict[str, Any] | None = None) -> None:
        """Puts the interrupted job back into the queue, or fails it if it was interrupted once too often.

        Args:
            how: the reason of the interruption.
            cause: error with which the job then fails; by default one that counts the attempts.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        job_id, token = self._job.id, self._job.fencing_token
        error = self._store.runner.give_back(job_id, token, how, max_attempts=self._max_attempts)
        if error is None:
            self._storage.remove_claim(job_id, token)
        else:
            self._fail(cause or error)

    def _fail(self, error: dict[str, Any]) -> None:
        """Fails the job, or lets it end with a mock video if the operator has allowed that for such an error."""
        job_id, token, runner = self._job.id, self._job.fencing_token, self._store.runner
        if not self._job.params.is_mock and GenerationMode.read(self._store.settings).replaces(error):
            runner.mock(job_id, token, error["message"])
        else:
            runner.fail(job_id, token, error)
        self._storage.remove_outputs(job_id)

    def discard(self) -> None:
        """Removes the files of a lost claim, unless they are the job's video.

        The job may have been completed by this very claim, if the database committed but its answer was lost.
        """
        try:
            job = self._store.reader.get(self._job.id)
        except JobNotFound:
            self._storage.remove_outputs(self._job.id)
            return
        own = output_key(self._job.id, self._job.fencing_token)
        if job.state is not JobState.COMPLETED or job.output is None or job.output["folder"] != own:
            self._storage.remove_claim(self._job.id, self._job.fencing_token)
