"""Cleaning: removes what its retention ends, and files that no job names any more.

Each step removes a record first and its files later, so that no record names a file that is gone. If the process dies
in between, the next cleaning finds the files. Several processes may clean at once.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from deployments.jobs.retention import AUDIT_SECONDS, DELETED_SECONDS, NEW_INPUT_SECONDS, USAGE_SECONDS, Retention
from deployments.jobs.store import JobStore
from deployments.jobs.unneeded_inputs import choose_unneeded
from deployments.storage.folder import FolderStorage
from deployments.storage.protocol import Storage, StoredInput, StoredOutputs

_PAUSE_SECONDS = 0.01
"""Time between two deletions, in which other writers of the database have their turn."""
_CHECKED_AT_ONCE = 200
"""Number of jobs whose files are compared with one query."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleaned:
    """Things of one kind that were found and removed."""

    kind: str
    count: int
    size_bytes: int | None
    """Size of their files; None for rows of the database."""
    kept: bool = False
    """Whether they were found only, because nobody has asked for their removal."""


class Cleaner:
    """Removes what its retention ends. It changes nothing that a pending or running job needs."""

    def __init__(self, store: JobStore, storage: Storage, retention: Retention, *, orphans: bool = False) -> None:
        """Takes what is to be cleaned.

        Args:
            store: the job store.
            storage: the storage of inputs and videos.
            retention: the limits.
            orphans: whether to remove the outputs of jobs that the database has never had, and old inputs that neither
                its jobs nor its records of uploads name. Without that, a new database in the place of a lost one costs
                no videos and no inputs.
        """
        self._store, self._storage, self._retention, self._orphans = store, storage, retention, orphans

    def clean(self, *, dry_run: bool = False) -> list[Cleaned]:
        """Removes everything that is due, in short transactions, and returns what it removed.

        Args:
            dry_run: returns what would be removed, and removes nothing.

        Raises:
            StorageFailed: the files could not be listed or removed.
        """
        return [
            self._clean_events(dry_run),
            self._clean_webhooks(dry_run),
            self._clean_jobs(dry_run),
            *self._clean_outputs(dry_run),
            *self._clean_inputs(dry_run),
        ]

    def _clean_events(self, dry_run: bool) -> Cleaned:
        events, seconds = self._store.events, self._retention.event_seconds
        count = events.count_older(than_seconds=seconds) if dry_run else events.prune(older_than_seconds=seconds)
        return Cleaned(kind="events", count=count, size_bytes=None)

    def _clean_webhooks(self, dry_run: bool) -> Cleaned:
        webhooks, seconds = self._store.deliveries, self._retention.webhook_seconds
        count = webhooks.count_older(than_seconds=seconds) if dry_run else webhooks.prune(older_than_seconds=seconds)
        return Cleaned(kind="webhooks", count=count, size_bytes=None)

    def _clean_jobs(self, dry_run: bool) -> Cleaned:
        """Deletes jobs with their videos."""
        count = size_bytes = 0
        for job_id in self._store.expiry.find(self._retention):
            job_bytes = self._storage.output_bytes(job_id)
            if not dry_run:
                if not self._store.writer.delete_ended(job_id):
                    continue
                self._storage.remove_outputs(job_id)
                time.sleep(_PAUSE_SECONDS)
            count += 1
            size_bytes += job_bytes
        if not dry_run:
            self._store.writer.forget_deleted(older_than_seconds=DELETED_SECONDS)
            self._store.audit.prune(older_than_seconds=AUDIT_SECONDS)
            self._store.usage.prune(older_than_seconds=USAGE_SECONDS)
        return Cleaned(kind="jobs with their videos", count=count, size_bytes=size_bytes)

    def _clean_outputs(self, dry_run: bool) -> list[Cleaned]:
        """Removes the files of deleted jobs, and of claims that were not a job's last one."""
        counts, sizes = Counter[bool](), Counter[bool]()
        storages: list[Storage] = [self._storage]
        if not isinstance(self._storage, FolderStorage):  # a generator that died may leave files on this machine
            storages.append(FolderStorage(self._storage.work.root))
        for storage in storages:
            for job_id, keep, is_orphan in self._find_leftovers(storage):
                counts[is_orphan] += 1
                sizes[is_orphan] += storage.output_bytes(job_id, keep=keep)
                if not dry_run and (self._orphans or not is_orphan):
                    storage.remove_outputs(job_id, keep=keep)
        return [
            Cleaned(kind="leftover outputs", count=counts[False], size_bytes=sizes[False]),
            Cleaned(kind="orphaned outputs", count=counts[True], size_bytes=sizes[True], kept=not self._orphans),
        ]

    def _find_leftovers(self, storage: Storage) -> Iterator[tuple[str, str | None, bool]]:
        """Yields the jobs that have files without a use.

        Yields:
            The id of each job, the key of its video to keep, if any, and whether the database has never had the job.
        """
        listed = storage.list_outputs()
        while found := list(islice(listed, _CHECKED_AT_ONCE)):
            folders = self._read_folders(storage, [outputs.job_id for outputs in found])
            for outputs in found:
                if _has_leftovers(outputs, folders):
                    # Read again, because a client may have retried the job since.
                    now = self._read_folders(storage, [outputs.job_id])
                    if _has_leftovers(outputs, now):
                        yield outputs.job_id, now.get(outputs.job_id) or None, outputs.job_id not in now

    def _read_folders(self, storage: Storage, job_ids: list[str]) -> dict[str, str | None]:
        """Returns `JobReader.output_folders`, without the videos if another storage holds them."""
        folders = self._store.reader.output_folders(job_ids)
        return folders if storage is self._storage else {job_id: key and "" for job_id, key in folders.items()}

    def _clean_inputs(self, dry_run: bool) -> list[Cleaned]:
        """Removes inputs that no unfinished job needs, and then forgets their owners."""
        owners, now = self._store.input_owners, time.time()
        uses, owners_by_key = owners.uses(), owners.all()
        known, orphaned = list[StoredInput](), list[StoredInput]()
        for found in self._storage.list_inputs():
            is_known = found.key in owners_by_key or found.key in uses.by_jobs or _is_rest(found.key)
            (known if is_known else orphaned).append(found)
        chosen = choose_unneeded(known, uses, owners_by_key, self._retention, now)
        lost = choose_unneeded(orphaned, uses, owners_by_key, self._retention, now)
        if not dry_run:
            # Earlier versions recorded no input without an owner: it must be known after the deletion of its jobs.
            owners.record("", {found.key for found in known if found.key in uses.by_jobs} - owners_by_key.keys())
            chosen = [found for found in chosen if self._storage.remove_input(found)]
            if self._orphans:
                lost = [found for found in lost if self._storage.remove_input(found)]
            removed = {found.key for found in chosen}
            owners.forget(sorted(removed), stored_before=now - NEW_INPUT_SECONDS)
            kept = {found.key for found in known} - removed
            owners.prune(keep=uses.by_jobs | kept, older_than_seconds=self._retention.upload_seconds)
        return [
            Cleaned(kind="inputs", count=len(chosen), size_bytes=_sum(chosen)),
            Cleaned(kind="orphaned inputs", count=len(lost), size_bytes=_sum(lost), kept=not self._orphans),
        ]


def _is_rest(key: str) -> bool:
    """Returns whether a file of the inputs is the rest of an interrupted write or removal."""
    return key.rpartition("/")[2].startswith(".")


def _sum(inputs: Sequence[StoredInput]) -> int:
    return sum(found.size_bytes for found in inputs)


def _has_leftovers(outputs: StoredOutputs, folders: Mapping[str, str | None]) -> bool:
    """Returns whether a job is gone, or has ended and has more files than its video's."""
    folder = folders.get(outputs.job_id, "")
    if not folder:
        return folder is not None
    return any(key != folder and not key.startswith(f"{folder}/") for key in outputs.keys)
