"""Eviction of files from the page cache."""

import os
from pathlib import Path


def evict(path: Path) -> None:
    """Evicts a file from the page cache. A memory-mapped file, or one that is not on a disk, stays in memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
