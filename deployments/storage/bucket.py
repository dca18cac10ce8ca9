"""Storage in a bucket, for machines that share no folder. Local files are copies of its objects."""

import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from deployments.storage.inheriting import choose_segments
from deployments.storage.keys import (
    INPUTS,
    OUTPUTS,
    claim_segments_key,
    file_not_found,
    input_key,
    output_key,
    preview_key,
    resolve_key,
    segments_key,
    snapshot_key,
)
from deployments.storage.protocol import StoredInput, StoredOutputs
from deployments.storage.work_folder import WorkFolder
from wan22_bridge.errors import ConfigurationError, NotFound, StorageFailed, storage_failed
from wan22_bridge.files import atomic_path
from wan22_bridge.media.output import OUTPUT_FILES
from wan22_bridge.reasons import find_reason

if TYPE_CHECKING:
    from obstore import ObjectMeta

logger = logging.getLogger("ray.serve")

_COPIES = "copies"
_MAX_RETRIES = 10_000
"""More retries than fit into any timeout, because obstore's default of ten ends after two seconds."""
UNUSED_COPY_RETENTION_SECONDS = 24 * 3600.0
"""Retention of local copies that nobody reads."""
PATIENCE_SECONDS = 180.0
"""Default time for which a failed request is repeated. It is long, because the output of a job is costly."""


class BucketStorage:
    """Stores files as the objects of a bucket. Generators work in a local folder and publish their files."""

    def __init__(self, root: Path, url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Configures the bucket without connecting to it.

        Args:
            root: the local folder for running jobs and for copies of objects.
            url: a bucket and a prefix in it, such as `s3://bucket/videos`. Credentials come from the environment.
            patience_seconds: how long a failed request is repeated.

        Raises:
            ConfigurationError: the URL names no supported object store, or the environment lacks a setting.
        """
        self.work = WorkFolder(root)
        try:
            self._store: ObjectStore = from_url(
                url,
                client_options={"allow_http": True},  # for endpoints that are given as http://…
                retry_config={"max_retries": _MAX_RETRIES, "retry_timeout": timedelta(seconds=patience_seconds)},
            )
        except (BaseError, ValueError) as exc:
            raise ConfigurationError(
                f"storage_url: {url} can't be used: {_reason(exc)}. Use a URL like s3://bucket/videos.",
                param="storage_url",
            ) from exc

    @property
    def inputs_root(self) -> Path:
        """The folder of local copies."""
        return self.work.root / _COPIES

    def check(self) -> None:
        """Writes, reads and removes an object; raises StorageFailed if that fails."""
        with _bucket_errors("access"):
            obstore.put(self._store, "check", b"")
            obstore.get(self._store, "check").bytes()
            obstore.delete(self._store, "check")

    def put_input(self, data: bytes) -> str:
        """Uploads an input and returns its key; raises StorageFailed if that fails."""
        key = input_key(data)
        with _bucket_errors("write to"):
            obstore.put(self._store, key, data)
        return key

    def path(self, key: str) -> Path:
        """Returns the local copy of an object, downloading it if needed; raises NotFound if there is none."""
        path = resolve_key(self.inputs_root, key)
        if not path.is_file():
            self._remove_unused_copies()
            self._download(key, path)
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))  # the access time marks the copy as used
        return path

    def fetch_job(self, job_id: str, fencing_token: int, keys: Collection[str]) -> None:
        """Downloads the inputs with these keys, and the job's newest snapshot and complete segments, if any."""
        for key in keys:
            self.path(key)
        snapshot = self.work.snapshot_path(job_id)
        snapshot.unlink(missing_ok=True)  # an earlier claim's, perhaps older than another machine's
        with contextlib.suppress(NotFound):
            self._download(snapshot_key(job_id), snapshot)
        self._fetch_segments(job_id, fencing_token)

    def _fetch_segments(self, job_id: str, fencing_token: int) -> None:
        """Downloads the complete segments of earlier claims into the folder of a claim."""
        with _bucket_errors("list"):
            keys = {meta["path"] for chunk in obstore.list(self._store, segments_key(job_id)) for meta in chunk}
        folders = {key.rpartition("/")[0] for key in keys}
        complete = [folder for folder in folders if all(f"{folder}/{name}" in keys for name in OUTPUT_FILES)]
        found = [(int(token), int(index)) for _, token, index in (folder.rsplit("/", 2) for folder in complete)]
        own = self.work.segments_folder(job_id, fencing_token)
        for index, token in choose_segments(found, before=fencing_token).items():
            for name in OUTPUT_FILES:
                key = f"{claim_segments_key(job_id, token)}/{index}/{name}"
                self._download(key, own / str(index) / name)

    def publish_snapshot(self, job_id: str) -> None:
        """Uploads the snapshot of a job."""
        self._upload(snapshot_key(job_id), self.work.snapshot_path(job_id))

    def publish_segment(self, job_id: str, fencing_token: int, index: int) -> None:
        """Uploads the files of a segment."""
        key = f"{claim_segments_key(job_id, fencing_token)}/{index}"
        for path in (self.work.segments_folder(job_id, fencing_token) / str(index)).iterdir():
            self._upload(f"{key}/{path.name}", path)

    def publish_preview(self, job_id: str) -> None:
        """Uploads the preview of a job."""
        self._upload(preview_key(job_id), self.work.preview_path(job_id))

    def publish_output(self, job_id: str, fencing_token: int) -> None:
        """Uploads the output files of a claim."""
        key, folder = output_key(job_id, fencing_token), self.work.output_folder(job_id, fencing_token)
        for path in folder.iterdir():
            self._upload(f"{key}/{path.name}", path)

    def read_preview(self, job_id: str) -> bytes | None:
        """Downloads the newest preview of a running job; returns None if there is none yet."""
        with contextlib.suppress(NotFound), _bucket_errors("read from"):
            return bytes(obstore.get(self._store, preview_key(job_id)).bytes())
        return None

    def remove_work_files(self, job_id: str, fencing_token: int) -> None:
        """Removes the local snapshot, segments, preview and output of a claim, because the bucket has them."""
        for path in (self.work.snapshot_path(job_id), self.work.preview_path(job_id)):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.work.segments_folder(job_id, fencing_token), ignore_errors=True)
        self.work.remove_claim(job_id, fencing_token)

    def remove_outputs(self, job_id: str, *, keep: str | None = None) -> None:
        """Removes the objects of all claims of a job, except those below the key `keep`."""
        if keep is None:
            shutil.rmtree(self.inputs_root / OUTPUTS / job_id, ignore_errors=True)
        self._remove(f"{OUTPUTS}/{job_id}", keep=keep)

    def remove_claim(self, job_id: str, fencing_token: int) -> None:
        """Removes the output objects of one claim of a job."""
        self._remove(output_key(job_id, fencing_token))

    def output_bytes(self, job_id: str, *, keep: str | None = None) -> int:
        """Returns the size of the objects that `remove_outputs` would remove."""
        found = self._list(f"{OUTPUTS}/{job_id}")
        return sum(meta["size"] for meta in found if keep is None or not meta["path"].startswith(f"{keep}/"))

    def list_outputs(self) -> Iterator[StoredOutputs]:
        """Yields the jobs that have objects here. The bucket lists the objects of a job one after the other."""
        keys = (meta["path"] for meta in self._list(OUTPUTS))
        for job_id, of_job in groupby(keys, key=lambda key: key.split("/")[1]):
            yield StoredOutputs(job_id=job_id, keys=frozenset(of_job))

    def list_inputs(self) -> Iterator[StoredInput]:
        """Yields all inputs in the bucket."""
        return map(_to_input, self._list(INPUTS))

    def remove_input(self, found: StoredInput) -> bool:
        """Removes an input, unless it was uploaded again before its time was read a last time."""
        with _bucket_errors("tidy"):
            try:
                if _to_input(obstore.head(self._store, found.key)).stored_at != found.stored_at:
                    return False
            except FileNotFoundError:
                return False
            obstore.delete(self._store, found.key)
        resolve_key(self.inputs_root, found.key).unlink(missing_ok=True)
        return True

    def _list(self, prefix: str) -> Iterator["ObjectMeta"]:
        """Yields the objects below a prefix; raises StorageFailed if that fails."""
        with _bucket_errors("list"):
            for chunk in obstore.list(self._store, prefix):
                yield from chunk

    def _remove(self, prefix: str, *, keep: str | None = None) -> None:
        """Removes the objects below a prefix, except those below the key `keep`.

        A failure is only logged, because the hourly cleaning removes the remaining objects later.
        """
        try:
            keys = [meta["path"] for meta in self._list(prefix)]
            unwanted = [key for key in keys if keep is None or not key.startswith(f"{keep}/")]
            with _bucket_errors("tidy"):
                if unwanted:
                    obstore.delete(self._store, unwanted)
        except StorageFailed as exc:
            logger.warning("%s", exc.message, extra={"action": "bucket_failed"})

    def _upload(self, key: str, path: Path) -> None:
        with _bucket_errors("write to"):
            obstore.put(self._store, key, path)

    def _download(self, key: str, path: Path) -> None:
        """Downloads an object to a path, together with its modification time."""
        with _bucket_errors("read from"):
            found = obstore.get(self._store, key)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                for chunk in found:
                    file.write(chunk)
            written_ns = int(found.meta["last_modified"].timestamp() * 1e9)
        os.utime(path, ns=(written_ns, written_ns))

    def _remove_unused_copies(self) -> None:
        """Removes local copies that nobody has read lately, to free disk space. They can be downloaded again."""
        before = time.time() - UNUSED_COPY_RETENTION_SECONDS
        for path in self.inputs_root.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process may remove the same copy
                if path.is_file() and path.stat().st_atime < before:
                    path.unlink()


def _to_input(meta: "ObjectMeta") -> StoredInput:
    return StoredInput(key=meta["path"], size_bytes=meta["size"], stored_at=meta["last_modified"].timestamp())


@contextmanager
def _bucket_errors(verb: Literal["access", "read from", "write to", "list", "tidy"]) -> Iterator[None]:
    """Translates errors of the object store.

    Clients do not see the store's message, which may name the bucket and its owner. The log has it.

    Args:
        verb: the attempted operation, for the message.

    Raises:
        NotFound: an object that was to be read does not exist.
        StorageFailed: anything else went wrong.
    """
    try:
        yield
    except (BaseError, OSError) as exc:
        if verb == "read from" and isinstance(exc, FileNotFoundError):
            raise file_not_found() from exc
        reason = _reason(exc)
        logger.error("Cannot %s the bucket: %s", verb, reason, extra={"action": "bucket_failed"})
        failed = storage_failed(
            f"Cannot {verb} the bucket.",
            exc,
            suggestions=["Check that the bucket exists, the credentials in the environment, and the network."],
        )
        failed.add_note(reason)
        raise failed from None


def _reason(error: Exception) -> str:
    """Returns the message in the store's XML answer, or the first line of the error."""
    text = str(error)
    message = re.search("<Message>(.*?)</Message>", text)
    return find_reason(Exception(message[1]) if message else error, limit=300)
