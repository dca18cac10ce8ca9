"""The interface of every storage backend.

To add a backend, write a class with all these methods in a module beside this one, and have `open_storage` return it
for its URLs. mypy then reports each method that the class lacks.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deployments.storage.work_folder import WorkFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredInput:
    """A stored input, or the rest of an interrupted attempt to store or to remove one."""

    key: str
    size_bytes: int
    stored_at: float
    """Time at which it was stored or used last, in seconds since the epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredOutputs:
    """Everything that claims of one job have stored and that was not removed."""

    job_id: str
    keys: frozenset[str]
    """Keys of files, or of folders of files."""


class Storage(Protocol):
    """Stores the inputs and outputs of jobs. Generators work in a local folder and publish their files to it."""

    @property
    def work(self) -> WorkFolder:
        """The local folder in which this machine's generators work."""

    @property
    def inputs_root(self) -> Path:
        """The local folder below which a generator finds the inputs of a job by their keys."""

    def check(self) -> None:
        """Writes, reads and removes a file.

        Raises:
            StorageFailed: one of these failed.
        """

    def put_input(self, data: bytes) -> str:
        """Stores an input and returns its key. The input is durable when this returns.

        Storing an input again marks it as used, so that `remove_input` spares it.

        Raises:
            StorageFailed: the input could not be written.
        """

    def path(self, key: str) -> Path:
        """Returns a local path of a stored file, with the file's modification time.

        Raises:
            NotFound: there is no such file, or the key leads out of the storage.
            StorageFailed: the file could not be read.
        """

    def fetch_job(self, job_id: str, fencing_token: int, keys: Collection[str]) -> None:
        """Makes the inputs with these keys and the job's newest snapshot, if any, available locally for a claim.

        Complete segments of earlier claims are copied into the claim's own folder of segments.

        Raises:
            NotFound: there is no such input.
            StorageFailed: a file could not be read.
        """

    def publish_snapshot(self, job_id: str) -> None:
        """Copies the job's snapshot from the work folder, so that other machines can resume the job.

        Raises:
            StorageFailed: the snapshot could not be written.
        """

    def publish_segment(self, job_id: str, fencing_token: int, index: int) -> None:
        """Copies a complete segment of a claim from the work folder, so that other machines continue after it.

        Raises:
            StorageFailed: a file could not be written.
        """

    def publish_preview(self, job_id: str) -> None:
        """Copies the job's preview from the work folder, so that other machines can show it.

        Raises:
            StorageFailed: the preview could not be written.
        """

    def publish_output(self, job_id: str, fencing_token: int) -> None:
        """Copies the output of a claim from the work folder, so that it outlives this machine.

        Raises:
            StorageFailed: a file could not be written.
        """

    def read_preview(self, job_id: str) -> bytes | None:
        """Returns the newest preview of a running job, or None if there is none yet."""

    def remove_work_files(self, job_id: str, fencing_token: int) -> None:
        """Removes what a claim left in the work folder and does not need there any more.

        The generator calls this after each claim. Another claim of the job may be running on this machine.
        """

    def remove_outputs(self, job_id: str, *, keep: str | None = None) -> None:
        """Removes the files of all claims of a job, except those below the key `keep`."""

    def remove_claim(self, job_id: str, fencing_token: int) -> None:
        """Removes the output of one claim of a job."""

    def output_bytes(self, job_id: str, *, keep: str | None = None) -> int:
        """Returns the size of the files that `remove_outputs` would remove."""

    def list_outputs(self) -> Iterator[StoredOutputs]:
        """Yields the jobs that have output files, snapshots, segments or previews here.

        Raises:
            StorageFailed: the files could not be listed.
        """

    def list_inputs(self) -> Iterator[StoredInput]:
        """Yields all stored inputs.

        Raises:
            StorageFailed: the files could not be listed.
        """

    def remove_input(self, found: StoredInput) -> bool:
        """Removes an input, and returns False if it stays, because it was stored or used again meanwhile.

        Raises:
            StorageFailed: the file could not be removed.
        """
