"""Headers of safetensors files: names, shapes and metadata, read and checked without loading a tensor."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from wan22_bridge.models.bounded_json import parse_json

MAX_HEADER_BYTES = 16 * 2**20
"""Maximum size of a header. The header of a large LoRA has less than one megabyte."""
_MAX_METADATA_CHARACTERS = 2**20
_MAX_NAME_CHARACTERS = 1000
_MAX_DIMENSIONS = 16
_MAX_NUMBER = 2**63
_LENGTH = struct.Struct("<Q")
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8} | {
    f"{kind}{bits}": bits for kind in ("I", "U", "F") for bits in (16, 32, 64)
}
_BITS |= {"BF16": 16, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


class UnreadableHeader(ValueError):
    """The file is not a complete safetensors file."""


@dataclass(frozen=True, slots=True)
class Header:
    """Content of a header."""

    shapes: Mapping[str, tuple[int, ...]]
    """Shape of each tensor by its name."""
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Reads a file's header. The result is cached until the file changes.

    Raises:
        UnreadableHeader: The file is not a complete safetensors file.
        OSError: The file can't be read.
    """
    stat = path.stat()
    return _read_cached(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _read_cached(path: Path, size: int, _changed: int) -> Header:
    with path.open("rb") as file:
        return parse_header(file, size)


def parse_header(file: IO[bytes], size: int) -> Header:
    """Reads a header from an open file's beginning, and compares it with the file's size.

    Args:
        file: The file, at its beginning.
        size: The file's size in bytes.

    Raises:
        UnreadableHeader: The file is not a complete safetensors file.
    """
    start = file.read(_LENGTH.size)
    if len(start) < _LENGTH.size:
        raise UnreadableHeader(f"it has {size} bytes")
    (length,) = _LENGTH.unpack(start)
    if length > min(MAX_HEADER_BYTES, size - _LENGTH.size):
        raise UnreadableHeader(_recognize(start) or f"its header would have {length} bytes")
    try:
        data = parse_json(file.read(length).decode())
    except ValueError as exc:
        raise UnreadableHeader(f"its header is not JSON of a reasonable size: {str(exc)[:100]}") from exc
    if not isinstance(data, dict):
        raise UnreadableHeader("its header is not a JSON object")
    metadata = data.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UnreadableHeader("its metadata is not a JSON object of texts")
    _check_extents(data, size - _LENGTH.size - length)
    return Header({name: tuple(entry["shape"]) for name, entry in data.items()}, _shorten(metadata))


def _shorten(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Leaves out long texts, because headers stay in memory."""
    kept: dict[str, str] = {}
    left = _MAX_METADATA_CHARACTERS
    for key, text in metadata.items():
        if (length := len(key) + len(text)) <= left:
            kept[key] = text
            left -= length
    return kept


def _recognize(start: bytes) -> str | None:
    """Names the format of a file that is not in the safetensors format, by its first bytes."""
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return "it is a pickle, which could run code when it is loaded"
    return "it is a GGUF file" if start.startswith(b"GGUF") else None


def _check_extents(entries: Mapping[str, Any], data_bytes: int) -> None:
    """Checks that the tensors fill the rest of the file without gaps, as the format demands."""
    extents = []
    for name, entry in entries.items():
        try:
            bits, shape, (start, end) = _BITS[entry["dtype"]], entry["shape"], entry["data_offsets"]
            if len(name) > _MAX_NAME_CHARACTERS or not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
                raise ValueError
            if not all(type(number) is int and 0 <= number < _MAX_NUMBER for number in (*shape, start, end)):
                raise ValueError
            if bits * math.prod(shape) != 8 * (end - start):
                raise ValueError
        except (KeyError, TypeError, ValueError) as exc:
            raise UnreadableHeader(f"its header describes the tensor {name[:80]!r} wrongly") from exc
        extents.append((start, end))
    position = 0
    for start, end in sorted(extents):
        if start != position:
            raise UnreadableHeader("its tensors overlap or leave gaps")
        position = end
    if position != data_bytes:
        raise UnreadableHeader(f"its tensors need {position} bytes, and the file has {data_bytes} for them")
