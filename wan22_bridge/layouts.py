"""Folders of weights that are laid out on the disk while a process needs them."""

import fcntl
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import IO

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
