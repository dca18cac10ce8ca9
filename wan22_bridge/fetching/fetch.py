"""Fetching a model: what is missing of it, several files at a time, each checked before it is there."""

import errno
import logging
import random
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError

from wan22_bridge.errors import DownloadFailed
from wan22_bridge.fetching.hub import Hub
from wan22_bridge.fetching.manifest import (
    FileState,
    Manifest,
    ModelFile,
    check_file,
    read_manifest,
    write_manifest,
)
from wan22_bridge.files import fsync_directory, locked

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""Files."""
TRIES = 8
"""So often in a row a file may come no further."""
LONGEST_WAIT_SECONDS = 60.0
_SPEED_SECONDS = 10.0
"""Over how long the speed is averaged."""
_PARTS = ".parts"
_CAST = ("transformer", "transformer_2", "text_encoder")


class Stopped(Exception):
    """The fetch was stopped by who asked for it; what came so far is kept."""


class Fetching:
    """How far a fetch is. It may be asked from any thread, and stopped."""

    def __init__(self) -> None:
        self.done_bytes = 0
        """What is there, checked or not."""
        self.total_bytes: int | None = None
        """None while the hub has not been asked."""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._came: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def stop(self) -> None:
        """Ends it soon; it can be taken up again later."""
        self._stop.set()

    def check(self) -> None:
        """Raises `Stopped` once it was stopped."""
        if self._stop.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Waits, but not once it is stopped."""
        self._stop.wait(seconds)
        self.check()

    def tell(self, count: int) -> None:
        """Bytes came."""
        self.check()
        now = time.monotonic()
        with self._lock:
            self.done_bytes += count
            self._came.append((now, self.done_bytes))
            while now - self._came[0][0] > _SPEED_SECONDS and len(self._came) > 2:
                self._came.popleft()

    @property
    def bytes_per_second(self) -> float:
        """Over the last seconds."""
        with self._lock:
            (since, before), (_, done) = self._came[0], self._came[-1]
        return max(0.0, (done - before) / max(1e-3, time.monotonic() - since))

    @property
    def eta_seconds(self) -> float | None:
        """Until all is there; None while it can't be told."""
        speed = self.bytes_per_second
        return (self.total_bytes - self.done_bytes) / speed if speed > 0 and self.total_bytes is not None else None


def fetch_model(
    repository: str,
    revision: str | None,
    folder: Path,
    progress: Fetching,
    *,
    cast: bool = False,
    check_content: bool = False,
) -> Manifest:
    """Fetches what is missing or wrong of a model, while nobody else does.

    A model that was begun is completed at the commit at which it was begun, unless another revision is asked for.

    Args:
        repository: on the hub.
        revision: a commit, tag or branch; the newest by default.
        folder: where its files are to be.
        progress: is kept up to date, and stops it.
        cast: whether fp32 weights are cast to bf16 as soon as they are there: see `casting`.
        check_content: whether files that are there are read and hashed, or only their sizes compared.

    Raises:
        DownloadFailed: it can't be had.
        Stopped: it was stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        manifest = read_manifest(folder)
        if manifest is None or manifest.repository != repository or revision not in (None, manifest.commit):
            manifest = _retrying(lambda: Hub().describe(repository, revision), progress, what=repository)
            write_manifest(folder, manifest)
        return _Fetch(folder, manifest, progress, cast).run(check_content)


class _Fetch:
    def __init__(self, folder: Path, manifest: Manifest, progress: Fetching, cast: bool) -> None:
        self._folder, self._manifest, self._progress, self._cast = folder, manifest, progress, cast
        self._hub = Hub()
        self._lock = threading.Lock()

    def run(self, check_content: bool) -> Manifest:
        missing = []
        for file in self._manifest.files:
            self._progress.check()
            if check_file(self._folder / file.path, file, content=check_content) is FileState.GOOD:
                self._progress.done_bytes += file.size
                self._cast_file(file)
            else:
                missing.append(file)
                self._progress.done_bytes += self._size_of_part(file)
        self._progress.total_bytes = self._manifest.total_bytes
        self._check_disk(missing)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch") as threads:
            # The largest first: none of them is left alone at the end.
            fetches = [threads.submit(self._fetch, file) for file in sorted(missing, key=lambda file: -file.size)]
            try:
                wait(fetches, return_when=FIRST_EXCEPTION)
            finally:  # Ctrl-C, too: the threads are waited for
                if not all(fetch.done() and fetch.exception() is None for fetch in fetches):
                    self._progress.stop()
                    for fetch in fetches:
                        fetch.cancel()
        # What went wrong first, and not what was stopped for it.
        errors = [error for fetch in fetches if not fetch.cancelled() and (error := fetch.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
            raise error
        shutil.rmtree(self._folder / _PARTS, ignore_errors=True)
        return self._manifest

    def _part(self, file: ModelFile) -> Path:
        return self._folder / _PARTS / f"{file.path.replace('/', '--')}.{(file.sha256 or file.blob_id or '')[:12]}"

    def _size_of_part(self, file: ModelFile) -> int:
        part = self._part(file)
        return min(part.stat().st_size, file.size) if part.exists() else 0

    def _check_disk(self, missing: list[ModelFile]) -> None:
        needed = sum(file.size - self._size_of_part(file) for file in missing)
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise _disk_full(self._folder, f"{self._manifest.repository} needs {needed / 1e9:.1f} GB more, of which")

    def _fetch(self, file: ModelFile) -> None:
        part, path = self._part(file), self._folder / file.path
        part.parent.mkdir(exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        try:
            for _ in range(2):
                if self._size_of_part(file) < file.size or not part.exists():
                    _retrying(
                        lambda: self._hub.fetch(self._manifest, file, part, self._progress.tell),
                        self._progress,
                        what=file.path,
                        came=lambda: self._size_of_part(file),
                    )
                if check_file(part, file, content=True) is FileState.GOOD:
                    part.replace(path)
                    fsync_directory(path.parent)
                    self._cast_file(file)
                    return
                logger.warning("%s came with other content than the hub tells; it is fetched again", file.path)
                self._progress.tell(-part.stat().st_size)
                part.unlink()
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk_full(self._folder, "the disk became full:") from exc
            raise DownloadFailed(f"{file.path} can't be written: {exc.strerror or exc}", code="disk_failed") from exc
        raise DownloadFailed(
            f"{file.path} of {self._manifest.repository} came twice with other content than the hub tells.",
            code="checksum_mismatch",
            suggestions=["A proxy or a mirror gives something else: set HF_ENDPOINT to another."],
        )

    def _cast_file(self, file: ModelFile) -> None:
        if self._cast and _is_cast(file.path) and file.cast_sha256 is None:
            from wan22_bridge.fetching.casting import cast_file  # with torch, which fetching does without

            with self._lock:  # one at a time: a file is held in memory as a whole
                self._manifest = cast_file(self._folder, self._manifest, file)


def _is_cast(path: str) -> bool:
    """Whether a model's file holds weights that are computed in bf16. The VAE computes in fp32."""
    return path.endswith(".safetensors") and path.partition("/")[0] in _CAST


def _disk_full(folder: Path, what: str) -> DownloadFailed:
    return DownloadFailed(
        f"{what} {shutil.disk_usage(folder).free / 1e9:.1f} GB are free where {folder} is.",
        code="disk_full",
        suggestions=["Make room: what has come is kept. Or set data_dir to a folder on a larger disk."],
    )


_T = TypeVar("_T")


def _retrying(do: Callable[[], _T], progress: Fetching, *, what: str, came: Callable[[], int] = lambda: 0) -> _T:
    """Does it again, later and later, while the network or the hub are at fault; from the start where bytes came."""
    failures, before = 0, came()
    while True:
        progress.check()
        try:
            return do()
        except (HfHubHTTPError, httpx2.TransportError, OSError) as exc:
            failures, before = (1, came()) if came() > before else (failures + 1, before)
            asked_seconds = _asked_to_wait(exc)
            if not _is_passing(exc):
                if isinstance(exc, HfHubHTTPError):
                    reason = f"the hub answered {exc.response.status_code}"
                    raise DownloadFailed(f"{what} could not be fetched: {reason}.", code="hub_refused") from exc
                raise
            if failures >= TRIES:
                raise DownloadFailed(
                    f"{what} could not be fetched: {str(exc).partition(chr(10))[0][:200]}",
                    code="download_failed",
                    suggestions=["It goes on from where it was when it is asked for again."],
                    can_retry=True,
                ) from exc
            seconds = max(asked_seconds, random.uniform(0.5, 1) * min(LONGEST_WAIT_SECONDS, 2.0**failures / 2))
            logger.warning("%s: %s; again in %.1f s", what, str(exc).partition("\n")[0][:200], seconds)
            progress.wait(seconds)


def _is_passing(error: Exception) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def _asked_to_wait(error: Exception) -> float:
    """What the hub asks for with 429 and 503, in seconds."""
    value = error.response.headers.get("retry-after", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(value), LONGEST_WAIT_SECONDS) if value.isdigit() else 0.0
