"""Headers of .gguf files, checked before the gguf library reads them.

The library takes every count and length in a file as true, and makes objects for them until the memory is full. The
format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from gguf.constants import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType

MAX_TENSORS = 20_000
"""Maximum tensors. An expert of A14B has about 1,100."""
MAX_ENTRIES = 10_000
"""Maximum entries of the metadata."""
MAX_ITEMS = 500_000
"""Maximum items in all lists of the metadata. A tokenizer has some hundred thousand."""
MAX_TEXT_BYTES = 2**20
"""Maximum size of a text in the metadata."""
_MAX_NAME_BYTES = 1024
_MAX_DIMENSIONS = 8
_MAX_ALIGNMENT = 2**20
_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
"""Formats of the types of values, by their numbers."""
_TEXT, _LIST, _U32 = 8, 9, 4
_ALIGNMENT = b"general.alignment"


class UnreadableGguf(ValueError):
    """The file is not a complete .gguf file. The message completes the sentence `The file is unusable: …`."""


def check_gguf(path: Path) -> None:
    """Checks a file's header, and that its tensors lie in the file without overlapping.

    Raises:
        UnreadableGguf: The file is incomplete or contradicts itself.
        OSError: The file can't be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        _check(_Reader(file, size), size)


class _Reader:
    """Reads little-endian values, and never more than the file has."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size
        self.items = 0
        """Number of items in lists so far."""

    def take(self, count: int) -> bytes:
        if count > self._left:
            raise UnreadableGguf("it is cut off within its header")
        self._left -= count
        data = self._file.read(count)
        if len(data) != count:
            raise UnreadableGguf("it was cut off while it was read")
        return data

    def number(self, kind: str) -> int:
        (value,) = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))
        return int(value)

    def text(self, limit: int) -> bytes:
        length = self.number("Q")
        if length > limit:
            raise UnreadableGguf(f"a text in its header has {length} bytes, and the limit is {limit}")
        return self.take(length)

    def skip(self, kind: int) -> None:
        """Skips a value of the metadata."""
        if kind == _TEXT:
            self.text(MAX_TEXT_BYTES)
        elif kind == _LIST:
            self._skip_list()
        else:
            self.take(_size(kind))

    def _skip_list(self) -> None:
        kind, count = self.number("I"), self.number("Q")
        self.items += count
        if self.items > MAX_ITEMS:
            raise UnreadableGguf(f"the lists in its header have {self.items} items, and the limit is {MAX_ITEMS}")
        if kind == _TEXT:
            for _ in range(count):
                self.text(MAX_TEXT_BYTES)
        else:
            self.take(count * _size(kind))

    @property
    def left(self) -> int:
        """Bytes between here and the end of the file."""
        return self._left


def _size(kind: int) -> int:
    if kind not in _SCALARS:
        raise UnreadableGguf(f"its header has a value of the unknown type {kind}")
    return struct.calcsize(f"<{_SCALARS[kind]}")


def _check(reader: _Reader, size: int) -> None:
    if size < len(_MAGIC) or reader.take(len(_MAGIC)) != _MAGIC:
        raise UnreadableGguf("it does not begin with GGUF")
    if (version := reader.number("I")) not in _VERSIONS:
        raise UnreadableGguf(f"its version is {version}, and 2 and 3 are supported")
    tensors, entries = reader.number("Q"), reader.number("Q")
    for name, count, limit in (("tensors", tensors, MAX_TENSORS), ("entries", entries, MAX_ENTRIES)):
        if count > limit:
            raise UnreadableGguf(f"it claims {count} {name}, and the limit is {limit}")
    alignment = GGUF_DEFAULT_ALIGNMENT
    for _ in range(entries):
        key, kind = reader.text(_MAX_NAME_BYTES), reader.number("I")
        if key == _ALIGNMENT and kind == _U32:
            alignment = reader.number("I")
        else:
            reader.skip(kind)
    if not 0 < alignment <= _MAX_ALIGNMENT:
        raise UnreadableGguf(f"it aligns its tensors to {alignment} bytes")
    extents = [_read_extent(reader, alignment) for _ in range(tensors)]
    _check_extents(extents, reader.left - (-(size - reader.left) % alignment))


def _read_extent(reader: _Reader, alignment: int) -> tuple[int, int]:
    """Returns where a tensor begins and ends, counted from the beginning of the data."""
    name = reader.text(_MAX_NAME_BYTES).decode(errors="replace")[:80]
    if (count := reader.number("I")) > _MAX_DIMENSIONS:
        raise UnreadableGguf(f"the tensor {name!r} has {count} dimensions")
    shape = [reader.number("Q") for _ in range(count)]
    kind, start = reader.number("I"), reader.number("Q")
    try:
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except ValueError as exc:
        raise UnreadableGguf(f"the tensor {name!r} has the unknown type {kind}") from exc
    if start % alignment or (shape and shape[0] % block):
        raise UnreadableGguf(f"the tensor {name!r} begins or ends within a block")
    return start, start + math.prod(shape) // block * block_bytes


def _check_extents(extents: Sequence[tuple[int, int]], data_bytes: int) -> None:
    position = 0
    for start, end in sorted(extents):
        if start < position:
            raise UnreadableGguf("its tensors overlap")
        position = end
    if position > data_bytes:
        raise UnreadableGguf(f"its tensors need {position} bytes, and the file has {max(0, data_bytes)} for them")
