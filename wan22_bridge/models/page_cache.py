"""Prefetching of a model's weights into the operating system's page cache."""

from collections.abc import Callable
from pathlib import Path

from wan22_bridge.machine import read_ram

_BLOCK_BYTES = 8 << 20
_RESERVE = 0.1
"""Share of the machine's memory that prefetching leaves free."""
_WEIGHTS = {".safetensors", ".gguf"}


def prefetch_weights(folder: Path, is_wanted: Callable[[], bool]) -> bool:
    """Reads a model's weights, so that they are in the page cache when the model is loaded.

    Args:
        folder: The model's folder.
        is_wanted: Called between blocks. Prefetching stops once the function returns False.

    Returns:
        Whether all weights were read. If the weights do not fit into the available memory, nothing is read.

    Raises:
        OSError: A file can't be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in _WEIGHTS)
    ram = read_ram()
    if sum(path.stat().st_size for path in files) > ram.available_bytes - _RESERVE * ram.total_bytes:
        return False
    block = bytearray(_BLOCK_BYTES)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                if not is_wanted():
                    return False
    return True
