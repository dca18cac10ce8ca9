"""Downloads of models: missing files are fetched in parallel, and each is verified before it gets its final name."""

import errno
import logging
import shutil
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from wan22_bridge.errors import DownloadFailed
from wan22_bridge.fetching.hub import Hub
from wan22_bridge.fetching.lockfile import check_locked
from wan22_bridge.fetching.manifest import (
    FileState,
    Manifest,
    ModelFile,
    check_file,
    clear_damage,
    has_damage,
    is_verified,
    read_manifest,
    write_manifest,
)
from wan22_bridge.fetching.progress import FetchProgress, FetchStopped
from wan22_bridge.fetching.retrying import retry
from wan22_bridge.files import fsync_directory, locked
from wan22_bridge.reasons import find_reason

logger = logging.getLogger(__name__)

PARALLEL_FILES = 4
"""Number of files that are fetched at the same time."""
_PARTS = ".parts"
_CAST = ("transformer", "transformer_2", "text_encoder")


def fetch_model(
    repository: str,
    revision: str | None,
    folder: Path,
    progress: FetchProgress,
    *,
    cast: bool = False,
    check_content: bool = False,
    locked_files: Mapping[str, str] | None = None,
) -> Manifest:
    """Fetches a model's missing and corrupted files, under a lock that excludes other processes.

    An incomplete model is completed at the commit that its manifest names, unless another revision is requested.

    Args:
        repository: Repository on the hub.
        revision: Commit, tag or branch; by default the newest commit of the main branch.
        folder: Folder of the model's files.
        progress: Receives the progress, and can stop the fetch.
        cast: Whether to cast fp32 weights to bf16 after each file: see `casting`.
        check_content: Whether to hash existing files. Otherwise only their sizes are compared, unless the folder is
            marked as damaged.
        locked_files: The hash that each file must have, by its path: see `lockfile`. Files that have changed since they
            were last hashed are hashed.

    Raises:
        DownloadFailed: The model could not be fetched, or has other files than the lock file pins.
        FetchStopped: The fetch was stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        manifest = read_manifest(folder)
        is_wanted = manifest is not None and manifest.repository == repository and revision in (None, manifest.commit)
        if manifest is None or not is_wanted or locked_files not in (None, manifest.hashes):
            manifest = retry(lambda: Hub().describe(repository, revision), progress, what=repository)
            if locked_files is not None:
                check_locked(manifest, locked_files)
            write_manifest(folder, manifest)
        check_content = check_content or has_damage(folder)
        manifest = _Fetch(folder, manifest, progress, cast, check_changed=locked_files is not None).run(check_content)
        if check_content:
            clear_damage(folder)
        return manifest


class _Fetch:
    """One fetch of a model, with its manifest as it changes."""

    def __init__(
        self, folder: Path, manifest: Manifest, progress: FetchProgress, cast: bool, *, check_changed: bool
    ) -> None:
        self._folder, self._manifest, self._progress, self._cast = folder, manifest, progress, cast
        self._check_changed = check_changed
        self._hub = Hub()
        self._lock = threading.Lock()

    def run(self, check_content: bool) -> Manifest:
        """Fetches the missing files, and returns the final manifest."""
        missing, unhashed = [], set[str]()
        for file in self._manifest.files:
            self._progress.raise_if_stopped()
            content = check_content or (self._check_changed and not is_verified(self._folder, file))
            if check_file(self._folder / file.path, file, content=content) is FileState.GOOD:
                if not content:
                    unhashed.add(file.path)
                self._progress.done_bytes += file.size
                self._cast_file(file)
            else:
                missing.append(file)
                self._progress.done_bytes += self._size_of_part(file)
        self._progress.total_bytes = self._manifest.total_bytes
        self._check_disk(missing)
        with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="fetch") as threads:
            # Largest first, so that no large file is still running when all others are done.
            fetches = [threads.submit(self._fetch, file) for file in sorted(missing, key=lambda file: -file.size)]
            try:
                wait(fetches, return_when=FIRST_EXCEPTION)
            finally:  # also on Ctrl-C, because the pool waits for its threads
                if not all(fetch.done() and fetch.exception() is None for fetch in fetches):
                    self._progress.stop()
                    for fetch in fetches:
                        fetch.cancel()
        # The cause is raised, rather than the `FetchStopped` of the files that were stopped because of it.
        errors = [error for fetch in fetches if not fetch.cancelled() and (error := fetch.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, FetchStopped)):
            raise error
        shutil.rmtree(self._folder / _PARTS, ignore_errors=True)
        self._record_verified(unhashed)
        return self._manifest

    def _record_verified(self, unhashed: Collection[str]) -> None:
        """Writes into the manifest that the content of all files is verified, except of those that were not hashed."""
        before = self._manifest
        for file in before.files:
            if file.path not in unhashed:
                changed = (self._folder / file.path).stat().st_mtime_ns
                self._manifest = self._manifest.with_file(replace(file, verified_mtime_ns=changed))
        if self._manifest != before:
            write_manifest(self._folder, self._manifest)

    def _part(self, file: ModelFile) -> Path:
        """Returns the path of a file's incomplete download."""
        return self._folder / _PARTS / f"{file.path.replace('/', '--')}.{(file.sha256 or file.blob_id or '')[:12]}"

    def _size_of_part(self, file: ModelFile) -> int:
        part = self._part(file)
        return min(part.stat().st_size, file.size) if part.exists() else 0

    def _check_disk(self, missing: list[ModelFile]) -> None:
        needed = sum(file.size - self._size_of_part(file) for file in missing)
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise _disk_full(self._folder, f"{self._manifest.repository} needs {needed / 1e9:.1f} GB more")

    def _fetch(self, file: ModelFile) -> None:
        part, path = self._part(file), self._folder / file.path
        part.parent.mkdir(exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        try:
            for _ in range(2):
                if self._size_of_part(file) < file.size or not part.exists():
                    retry(
                        lambda: self._hub.fetch(self._manifest, file, part, self._progress.add),
                        self._progress,
                        what=file.path,
                        received=lambda: self._size_of_part(file),
                    )
                if check_file(part, file, content=True) is FileState.GOOD:
                    part.replace(path)
                    fsync_directory(path.parent)
                    self._cast_file(file)
                    return
                logger.warning("%s has a wrong checksum; the file is downloaded again", file.path)
                self._progress.add(-part.stat().st_size)
                part.unlink()
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk_full(self._folder, f"{file.path} could not be written: the disk is full") from exc
            raise DownloadFailed(f"{file.path} could not be written: {find_reason(exc)}.", code="disk_failed") from exc
        raise DownloadFailed(
            f"{file.path} of {self._manifest.repository} had a wrong checksum twice.",
            code="checksum_mismatch",
            suggestions=["A proxy or a mirror may serve another file: set HF_ENDPOINT to another mirror."],
        )

    def _cast_file(self, file: ModelFile) -> None:
        if self._cast and _is_cast(file.path) and file.cast_sha256 is None:
            from wan22_bridge.fetching.casting import cast_file  # here, because it imports torch

            with self._lock:  # one file at a time, because each is loaded into memory completely
                self._manifest = cast_file(self._folder, self._manifest, file)


def _is_cast(path: str) -> bool:
    """Returns whether a file holds weights that are used in bf16, unlike those of the VAE."""
    return path.endswith(".safetensors") and path.partition("/")[0] in _CAST


def _disk_full(folder: Path, problem: str) -> DownloadFailed:
    return DownloadFailed(
        f"{problem}. The disk of the models has {shutil.disk_usage(folder).free / 1e9:.1f} GB free.",
        code="disk_full",
        suggestions=[
            "Free disk space and start the download again: it resumes. Or set models_dir to a folder on a larger disk."
        ],
    )
