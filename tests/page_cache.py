"""Whether files are in the page cache, as Linux tells it."""

import ctypes
import mmap
import os
from pathlib import Path


def evict(path: Path) -> None:
    """Puts a file out of the page cache; a file system that has no disk keeps it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def is_cached(path: Path) -> bool:
    """Whether all of it can be read without waiting for the disk. Asking brings nothing into the cache."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        pages = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(mapped)), pages
        )
        del first  # or the mapping can't be closed
    assert not failed
    return all(page & 1 for page in pages)
