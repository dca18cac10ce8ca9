"""Deletion of the videos for which it can no longer be undone."""

from deployments.jobs.store import JobStore
from deployments.storage.protocol import Storage


def delete_due_videos(store: JobStore, storage: Storage) -> None:
    """Deletes the videos whose deletion is due, each with its job.

    The record goes first. If the process dies before it has removed the files, the cleaning finds them.

    Raises:
        StorageFailed: the files could not be removed.
    """
    for job_id in store.videos.due_deletions():
        if store.writer.delete_due(job_id):
            storage.remove_outputs(job_id)
