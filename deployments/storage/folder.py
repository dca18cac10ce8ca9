"""Where inputs and outputs lie, addressed by keys that clients never see as paths: in a folder.

On several machines it is one that all of them have; or a bucket takes its place, and this folder is where work goes on.
"""

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from wan22_bridge.errors import NotFound, StorageFailed
from wan22_bridge.files import atomic_path

INPUTS, OUTPUTS = "inputs", "outputs"
SNAPSHOT = "snapshot.safetensors"
PREVIEW = "preview.webp"


class Storage:
    """Files below one folder. A key is a relative path such as `inputs/3f…` or `outputs/video_…/1`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def loras(self) -> Path:
        """The folder of LoRAs: people put .safetensors files there."""
        return self.root / "loras"

    @property
    def inputs_root(self) -> Path:
        """The folder below which a generator finds the inputs of a job by their keys."""
        return self.root

    def input_key(self, data: bytes) -> str:
        """The key that an input has once it is put here: it is made of the content."""
        return self.upload_key(hashlib.sha256(data).hexdigest())

    def upload_key(self, upload_id: str) -> str:
        """The key of the input that a client knows by `upload_id`.

        Raises:
            NotFound: it is not of the form that this storage gives.
        """
        if re.fullmatch("[0-9a-f]{64}", upload_id) is None:
            raise NotFound("There is no such upload.", code="upload_not_found")
        return f"{INPUTS}/{upload_id}"

    def put_input(self, data: bytes) -> str:
        """Keeps an input; on the disk when this returns.

        Raises:
            StorageFailed: it can't be written.
        """
        key = self.input_key(data)
        path = self.root / key
        try:
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)
                return key
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        except OSError as exc:
            raise StorageFailed(f"The upload could not be kept: {exc.strerror}.") from exc
        return key

    def path(self, key: str) -> Path:
        """The file or folder behind a key.

        Raises:
            NotFound: nothing lies there, or the key leads out of the storage.
        """
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()) or not path.exists():
            raise NotFound("There is no such file.", code="file_not_found")
        return path

    def output_key(self, job_id: str, fencing_token: int) -> str:
        """The folder that one claim of a job writes: another claim writes another folder."""
        return f"{OUTPUTS}/{job_id}/{fencing_token}"

    def output_folder(self, job_id: str, fencing_token: int) -> Path:
        """Its path, whether it exists or not."""
        return self.root / self.output_key(job_id, fencing_token)

    def snapshot_path(self, job_id: str) -> Path:
        """Where a job that runs keeps how far it is: every claim goes on from what the one before kept."""
        return self.root / OUTPUTS / job_id / SNAPSHOT

    def preview_path(self, job_id: str) -> Path:
        """Where a job that runs shows what it is becoming."""
        return self.root / OUTPUTS / job_id / PREVIEW

    def bring(self, job_id: str, keys: Collection[str]) -> None:
        """Has the snapshot of a job, where there is one, and its inputs ready for a generator."""

    def keep_snapshot(self, job_id: str) -> None:
        """Makes the snapshot of a job outlive this machine."""

    def show_preview(self, job_id: str) -> None:
        """Makes the preview of a job be seen by other machines."""

    def read_preview(self, job_id: str) -> bytes | None:
        """The preview of a job that runs; None while it has none."""
        try:
            return self.preview_path(job_id).read_bytes()
        except FileNotFoundError:
            return None

    def keep_output(self, job_id: str, fencing_token: int) -> None:
        """Makes the files of a claim outlive this machine."""

    def leave(self, job_id: str, fencing_token: int) -> None:
        """Is called when a generator has done with a claim of a job."""

    def remove_outputs(self, job_id: str, *, keep: str | None = None) -> None:
        """Removes what the claims of a job wrote, but for the folder of key `keep`."""
        folder = self.root / OUTPUTS / job_id
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        for path in folder.iterdir() if folder.is_dir() else ():
            if path != self.root / keep:
                _remove(path)

    def remove_claim(self, job_id: str, fencing_token: int) -> None:
        """Removes what one claim of a job wrote."""
        folder = self.output_folder(job_id, fencing_token)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()

    def output_jobs(self) -> list[str]:
        """The ids of all jobs that have a folder here."""
        folder = self.root / OUTPUTS
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def remove_old_inputs(self, *, keep: Collection[str], older_than_seconds: float) -> int:
        """Removes the inputs that are not in `keep` and were not put here lately; returns how many."""
        folder, removed = self.root / INPUTS, 0
        for path in folder.iterdir() if folder.is_dir() else ():
            if f"{INPUTS}/{path.name}" not in keep and path.stat().st_mtime < time.time() - older_than_seconds:
                path.unlink(missing_ok=True)
                removed += 1
        return removed


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
