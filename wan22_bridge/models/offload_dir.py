"""Temporary folders for weights that a process offloads to the disk."""

import contextlib
import fcntl
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from safetensors import SafetensorError

from wan22_bridge.errors import StorageFailed

_PREFIX = "wan22-offload-"


class OffloadDir:
    """A folder for offloaded weights, which `remove` or the end of this object removes.

    If the process is killed, the next `OffloadDir` in the same parent removes the folder. A file lock beside the
    folder shows whether the owning process is alive, also to other machines that share the disk.
    """

    def __init__(self, parent: Path) -> None:
        """Creates the folder in `parent`, and removes the folders of dead processes there."""
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(parent)
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = _lock_path(self.folder)
        file = lock.open("a")
        fcntl.flock(file, fcntl.LOCK_EX)
        self._finalizer = weakref.finalize(self, _remove, self.folder, lock, file)

    def remove(self) -> None:
        """Removes the folder. Further calls do nothing."""
        self._finalizer()


@contextlib.contextmanager
def translating_offload_errors() -> Iterator[None]:
    """Translates errors while weights are written to the disk.

    A failure here means a full or broken disk and not a corrupted model, because the weights were read before.

    Raises:
        StorageFailed: The weights can't be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as exc:
        raise StorageFailed(
            f"Cannot offload weights to the disk: {type(exc).__name__}.",
            suggestions=["Free space on the disk that holds the service's data."],
        ) from exc


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _remove(folder: Path, lock: Path, file: IO[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.unlink(missing_ok=True)
    file.close()


def _remove_abandoned(parent: Path) -> None:
    """Removes the folders whose locks no process holds."""
    for lock in parent.glob(f"{_PREFIX}*.lock"):
        try:
            file = lock.open("a")
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # the owning process is alive
            file.close()
            continue
        _remove(lock.with_suffix(""), lock, file)
