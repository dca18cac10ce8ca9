"""Whether files are in the page cache, as Linux tells it."""

import ctypes
import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.support.page_cache import evict


@contextmanager
def folder_on_disk() -> Iterator[Path]:
    """A folder for a while. That of other temporary files may lie in memory, where nothing is evicted."""
    with tempfile.TemporaryDirectory(prefix="wan22-test-", dir="/var/tmp") as name:
        yield Path(name)


def is_evicted(path: Path) -> bool:
    """Puts a file out of the page cache; whether it is. It is not while a process has it mapped."""
    evict(path)
    return not any(_pages(path))


def is_cached(path: Path) -> bool:
    """Whether all of it can be read without waiting for the disk. Asking brings nothing into the cache."""
    return all(_pages(path))


def _pages(path: Path) -> list[bool]:
    """Of each page, whether it is in the cache."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        pages = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(mapped)), pages
        )
        del first  # or the mapping can't be closed
    assert not failed
    return [bool(page & 1) for page in pages]
