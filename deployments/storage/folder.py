"""Storage in a folder: a local one, or one that several machines share."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from deployments.storage.inheriting import choose_segments
from deployments.storage.keys import INPUTS, OUTPUTS, file_not_found, input_key, resolve_key, segments_key
from deployments.storage.protocol import StoredInput, StoredOutputs
from deployments.storage.work_folder import WorkFolder
from wan22_bridge.errors import StorageFailed, storage_failed
from wan22_bridge.files import atomic_path
from wan22_bridge.media.output import place_output

logger = logging.getLogger("ray.serve")


class FolderStorage:
    """Stores files in the work folder itself, so that nothing needs to be fetched or published."""

    def __init__(self, root: Path) -> None:
        self.work = WorkFolder(root)

    @property
    def inputs_root(self) -> Path:
        """The work folder itself."""
        return self.work.root

    def check(self) -> None:
        """Writes and removes a temporary file; raises StorageFailed if that fails."""
        root = self.work.root
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root) as file:
                file.write(b"check")
        except OSError as exc:
            raise StorageFailed(
                f"Cannot write to {root}: {exc.strerror}.", suggestions=["Check its permissions and the disk."]
            ) from exc

    def put_input(self, data: bytes) -> str:
        """Stores an input and returns its key; raises StorageFailed if it could not be written."""
        key = input_key(data)
        path = self.work.root / key
        try:
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)
                return key
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        except OSError as exc:
            raise storage_failed(f"The upload could not be stored: {exc.strerror}.", exc) from exc
        return key

    def path(self, key: str) -> Path:
        """Returns the path of a stored file or folder; raises NotFound if there is none."""
        path = resolve_key(self.work.root, key)
        if not path.exists():
            raise file_not_found()
        return path

    def fetch_job(self, job_id: str, fencing_token: int, keys: Collection[str]) -> None:
        """Copies complete segments of earlier claims. Generators read everything else in this folder."""
        paths = {
            (int(path.parent.name), int(path.name)): path
            for path in (self.work.root / segments_key(job_id)).glob("*/*")
            if path.is_dir() and path.parent.name.isdecimal() and path.name.isdecimal()
        }
        own = self.work.segments_folder(job_id, fencing_token)
        for index, token in choose_segments(paths, before=fencing_token).items():
            try:
                with place_output(own / str(index)) as temporary:
                    shutil.copytree(paths[token, index], temporary, dirs_exist_ok=True)
            except StorageFailed as exc:  # the earlier claim may remove its segments; this one can generate them again
                logger.warning("%s", exc.message, extra={"action": "storage_failed", "job_id": job_id})
                break

    def publish_snapshot(self, job_id: str) -> None:
        """Does nothing, because generators write to this folder."""

    def publish_segment(self, job_id: str, fencing_token: int, index: int) -> None:
        """Does nothing, because generators write to this folder."""

    def publish_preview(self, job_id: str) -> None:
        """Does nothing, because generators write to this folder."""

    def publish_output(self, job_id: str, fencing_token: int) -> None:
        """Does nothing, because generators write to this folder."""

    def read_preview(self, job_id: str) -> bytes | None:
        """Returns the newest preview of a running job, or None if there is none yet."""
        try:
            return self.work.preview_path(job_id).read_bytes()
        except FileNotFoundError:
            return None

    def remove_work_files(self, job_id: str, fencing_token: int) -> None:
        """Does nothing, because the work files are the stored files."""

    def remove_outputs(self, job_id: str, *, keep: str | None = None) -> None:
        """Removes the files of all claims of a job, except the folder with the key `keep`."""
        folder = self.work.root / OUTPUTS / job_id
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        for path in folder.iterdir() if folder.is_dir() else ():
            if path != self.work.root / keep:
                _remove(path)

    def remove_claim(self, job_id: str, fencing_token: int) -> None:
        """Removes the output of one claim of a job."""
        self.work.remove_claim(job_id, fencing_token)

    def output_bytes(self, job_id: str, *, keep: str | None = None) -> int:
        """Returns the size of the files that `remove_outputs` would remove."""
        folder = self.work.root / OUTPUTS / job_id
        kept = None if keep is None else self.work.root / keep
        return sum(_size(path) for path in (folder.iterdir() if folder.is_dir() else ()) if path != kept)

    def list_outputs(self) -> Iterator[StoredOutputs]:
        """Yields the jobs that have a folder here, with the keys of what is in it."""
        root = self.work.root / OUTPUTS
        for folder in root.iterdir() if root.is_dir() else ():
            with contextlib.suppress(OSError):  # the job may be deleted meanwhile
                names = os.listdir(folder)
                keys = frozenset(f"{OUTPUTS}/{folder.name}/{name}" for name in names)
                yield StoredOutputs(job_id=folder.name, keys=keys)

    def list_inputs(self) -> Iterator[StoredInput]:
        """Yields all files in the folder of inputs."""
        folder = self.work.root / INPUTS
        for path in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # another process may remove the same file
                yield _to_input(path)

    def remove_input(self, found: StoredInput) -> bool:
        """Removes an input, unless `put_input` has stored it again: then its time has changed.

        The file gets another name first, because `put_input` could otherwise renew a file that is removed right after.
        If the process dies before the removal, the file with the other name is an old input that nobody refers to.
        """
        path = self.work.root / found.key
        away = path.with_name(f".{path.name.lstrip('.')}.removed")
        try:
            path.rename(away)
            if _to_input(away).stored_at != found.stored_at and not path.exists():
                away.rename(path)
                return False
            away.unlink(missing_ok=True)
        except FileNotFoundError:  # another process has removed it
            return False
        except OSError as exc:
            raise StorageFailed(f"An input could not be removed: {exc.strerror}.") from exc
        return True


def _to_input(path: Path) -> StoredInput:
    stat = path.stat()
    return StoredInput(key=f"{INPUTS}/{path.name}", size_bytes=stat.st_size, stored_at=stat.st_mtime)


def _size(path: Path) -> int:
    """Returns the size of a file, or of all files in a folder."""
    paths = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in paths:
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
