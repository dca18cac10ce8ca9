"""Files that are read from the disk again."""

import os
from pathlib import Path


def evict(path: Path) -> None:
    """Puts a file out of the page cache; one that is mapped, or that lies on no disk, stays."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
