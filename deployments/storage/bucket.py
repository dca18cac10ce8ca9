"""Storage in a bucket, for machines that share no folder: what lies here of it is a copy."""

import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from deployments.storage.folder import INPUTS, OUTPUTS, PREVIEW, SNAPSHOT, Storage
from wan22_bridge.errors import ConfigurationError, NotFound, StorageFailed
from wan22_bridge.files import atomic_path

logger = logging.getLogger("ray.serve")

_COPIES = "copies"
_MOST_TRIES = 10_000
UNUSED_COPIES_KEPT_SECONDS = 24 * 3600.0
PATIENCE_SECONDS = 180.0
"""How long a request is tried again: what a generator has made is worth it."""


class BucketStorage(Storage):
    """Keys are objects. A generator works in the folder, and what is to outlive its process is put into the bucket."""

    def __init__(self, root: Path, url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Connects to nothing yet.

        Args:
            root: the folder for work that goes on, and for copies of objects.
            url: of the bucket and a prefix in it, such as `s3://bucket/videos`; credentials come from the environment.
            patience_seconds: how long a request is tried again.

        Raises:
            ConfigurationError: the URL is of no object store that is known, or the environment lacks what it needs.
        """
        super().__init__(root)
        try:
            self._store: ObjectStore = from_url(
                url,
                client_options={"allow_http": True},  # for an endpoint that is given as such
                # By itself it gives up after ten times, which is two seconds where nobody listens.
                retry_config={"max_retries": _MOST_TRIES, "retry_timeout": timedelta(seconds=patience_seconds)},
            )
        except (BaseError, ValueError) as exc:
            raise ConfigurationError(
                f"storage_url: {url} can't be used: {_reason(exc)}. Expected is a URL such as s3://bucket/videos.",
                param="storage_url",
            ) from exc

    @property
    def inputs_root(self) -> Path:
        """Where the inputs are found that were brought."""
        return self.root / _COPIES

    def check(self) -> None:
        """Writes, reads and removes an object."""
        with _telling("tried"):
            obstore.put(self._store, "check", b"")
            obstore.get(self._store, "check").bytes()
            obstore.delete(self._store, "check")

    def put_input(self, data: bytes) -> str:
        """Keeps an input: in the bucket when this returns."""
        key = self.input_key(data)
        with _telling("written"):
            obstore.put(self._store, key, data)
        return key

    def path(self, key: str) -> Path:
        """A copy of the object, which has its time."""
        path = (self.inputs_root / key).resolve()
        if not path.is_relative_to(self.inputs_root.resolve()):
            raise NotFound("There is no such file.", code="file_not_found")
        if not path.is_file():
            self._remove_unused_copies()
            self._copy(key, path)
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        return path

    def bring(self, job_id: str, keys: Collection[str]) -> None:
        """Copies inputs and the snapshot of a job to where a generator reads them."""
        for key in keys:
            self.path(key)
        snapshot = self.snapshot_path(job_id)
        snapshot.unlink(missing_ok=True)  # one of an earlier claim may be older than another machine's
        with contextlib.suppress(NotFound):
            self._copy(f"{OUTPUTS}/{job_id}/{SNAPSHOT}", snapshot)

    def keep_snapshot(self, job_id: str) -> None:
        """Puts the snapshot of a job into the bucket."""
        self._put(f"{OUTPUTS}/{job_id}/{SNAPSHOT}", self.snapshot_path(job_id))

    def show_preview(self, job_id: str) -> None:
        """Puts the preview of a job into the bucket."""
        self._put(f"{OUTPUTS}/{job_id}/{PREVIEW}", self.preview_path(job_id))

    def read_preview(self, job_id: str) -> bytes | None:
        """The preview of a job that runs; None while it has none."""
        with contextlib.suppress(NotFound), _telling("read"):
            return bytes(obstore.get(self._store, f"{OUTPUTS}/{job_id}/{PREVIEW}").bytes())
        return None

    def keep_output(self, job_id: str, fencing_token: int) -> None:
        """Puts the files of a claim into the bucket."""
        key, folder = self.output_key(job_id, fencing_token), self.output_folder(job_id, fencing_token)
        for path in folder.iterdir():
            self._put(f"{key}/{path.name}", path)

    def leave(self, job_id: str, fencing_token: int) -> None:
        """Removes what a claim left in the folder. A later one may be at work there."""
        for path in (self.snapshot_path(job_id), self.preview_path(job_id)):
            path.unlink(missing_ok=True)
        super().remove_claim(job_id, fencing_token)

    def remove_outputs(self, job_id: str, *, keep: str | None = None) -> None:
        """Removes what the claims of a job wrote, but for what is below the key `keep`."""
        if keep is None:
            shutil.rmtree(self.inputs_root / OUTPUTS / job_id, ignore_errors=True)
        self._remove(f"{OUTPUTS}/{job_id}", lambda key, _: keep is None or not key.startswith(f"{keep}/"))

    def remove_claim(self, job_id: str, fencing_token: int) -> None:
        """Removes what one claim of a job wrote."""
        self._remove(self.output_key(job_id, fencing_token), lambda *_: True)

    def output_jobs(self) -> list[str]:
        """The ids of all jobs that have something here."""
        with _telling("listed"):
            found = obstore.list_with_delimiter(self._store, OUTPUTS)
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"]]

    def remove_old_inputs(self, *, keep: Collection[str], older_than_seconds: float) -> int:
        """Removes the inputs that are not in `keep` and were not put here lately; returns how many."""
        before = time.time() - older_than_seconds
        return self._remove(INPUTS, lambda key, written_at: key not in keep and written_at < before)

    def _remove(self, prefix: str, is_unwanted: Callable[[str, float], bool]) -> int:
        """Removes some of what is below a prefix, by key and time; what can't be removed now is found by tidying."""
        try:
            with _telling("tidied"):
                found = [meta for chunk in obstore.list(self._store, prefix) for meta in chunk]
                keys = [x["path"] for x in found if is_unwanted(x["path"], x["last_modified"].timestamp())]
                if keys:
                    obstore.delete(self._store, keys)
                return len(keys)
        except StorageFailed as exc:
            logger.warning("%s", exc.message, extra={"action": "bucket_failed"})
            return 0

    def _put(self, key: str, path: Path) -> None:
        with _telling("written"):
            obstore.put(self._store, key, path)

    def _copy(self, key: str, path: Path) -> None:
        with _telling("read"):
            found = obstore.get(self._store, key)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                for chunk in found:
                    file.write(chunk)
            written_ns = int(found.meta["last_modified"].timestamp() * 1e9)
        os.utime(path, ns=(written_ns, written_ns))

    def _remove_unused_copies(self) -> None:
        """Makes room: what nobody asked for lately is copied again when somebody does."""
        before = time.time() - UNUSED_COPIES_KEPT_SECONDS
        for path in self.inputs_root.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process does the same
                if path.is_file() and path.stat().st_atime < before:
                    path.unlink()


@contextmanager
def _telling(done: str) -> Iterator[None]:
    """Tells what the bucket says by what it is; what is not there to be read is not its fault."""
    try:
        yield
    except (BaseError, OSError) as exc:
        if done == "read" and isinstance(exc, FileNotFoundError):
            raise NotFound("There is no such file.", code="file_not_found") from exc
        raise StorageFailed(
            f"The bucket could not be {done}: {_reason(exc)}.",
            suggestions=["Look for the bucket, the credentials in the environment, and the network."],
        ) from exc


def _reason(error: Exception) -> str:
    """What a store says in its XML, or else the first line."""
    text = str(error)
    said = re.search("<Message>(.*?)</Message>", text)
    return (said[1] if said else text.partition("\n")[0])[:300].rstrip(". ")
