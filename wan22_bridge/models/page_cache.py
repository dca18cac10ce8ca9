"""Weights in the page cache: read from the disk before they are needed."""

from collections.abc import Callable
from pathlib import Path

import psutil

_BLOCK_BYTES = 8 << 20
_SPARED = 0.1
"""The share of the memory that is left alone."""
_WEIGHTS = {".safetensors", ".gguf"}


def read_ahead(folder: Path, is_wanted: Callable[[], bool]) -> bool:
    """Reads a model's weights, so that they are in the page cache when the model is loaded.

    Args:
        folder: of the model.
        is_wanted: is asked between blocks; once it says no, the rest is left.

    Returns:
        Whether all of it was read; nothing is where it would not fit into what memory is available.

    Raises:
        OSError: a file can't be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in _WEIGHTS)
    memory = psutil.virtual_memory()
    if sum(path.stat().st_size for path in files) > memory.available - _SPARED * memory.total:
        return False
    block = bytearray(_BLOCK_BYTES)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                if not is_wanted():
                    return False
    return True
