"""Folders of weights that are laid out on the disk while a process needs them."""

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


class Layout:
    """A folder that goes with `remove`, with this object, or, its process having been killed, with the next layout.

    A lock beside it tells whether its process lives: on another machine, too, where the disk is shared.
    """

    def __init__(self, scratch: Path) -> None:
        """Makes the folder below `scratch`, and removes those of dead processes there."""
        scratch.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(scratch)
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=scratch))
        lock = _lock_of(self.folder)
        file = lock.open("a")
        fcntl.flock(file, fcntl.LOCK_EX)
        self._finalizer = weakref.finalize(self, _remove, self.folder, lock, file)

    def remove(self) -> None:
        """Removes the folder; a second time does nothing."""
        self._finalizer()


@contextlib.contextmanager
def laying_out() -> Iterator[None]:
    """Tells of a full or broken disk by what it is: the weights that are written there were read well.

    Raises:
        StorageFailed: they can't be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as exc:
        raise StorageFailed(
            f"The weights that don't fit into memory could not be laid out on the disk: {type(exc).__name__}.",
            suggestions=["Free space on the disk that holds the service's data."],
        ) from exc


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _remove(folder: Path, lock: Path, file: IO[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.unlink(missing_ok=True)
    file.close()


def _remove_left_behind(scratch: Path) -> None:
    for lock in scratch.glob(f"{_PREFIX}*.lock"):
        try:
            file = lock.open("a")
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its process lives
            file.close()
            continue
        _remove(lock.with_suffix(""), lock, file)
