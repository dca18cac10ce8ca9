"""Checks of whether files are in Linux's page cache."""

import ctypes
import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.support.page_cache import evict


@contextmanager
def folder_on_disk() -> Iterator[Path]:
    """Yields a temporary folder on a disk. The usual one may be in memory, where no page is ever evicted."""
    with tempfile.TemporaryDirectory(prefix="wan22-test-", dir="/var/tmp") as name:
        yield Path(name)


def is_evicted(path: Path) -> bool:
    """Evicts a file from the page cache, and returns whether that succeeded.

    It fails while a process has the file mapped.
    """
    evict(path)
    return not any(_pages(path))


def is_cached(path: Path) -> bool:
    """Returns whether every page of a file is cached. The check itself reads nothing into the cache."""
    return all(_pages(path))


def _pages(path: Path) -> list[bool]:
    """Returns for each page of a file whether it is cached."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        pages = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(mapped)), pages
        )
        del first  # because the mapping can't be closed while it is referenced
    assert not failed
    return [bool(page & 1) for page in pages]
