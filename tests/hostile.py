"""Files that are made to hurt the service, and the memory that a fresh process needs for them."""

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

MB = 2**20


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Returns a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(chunks: bytes = b"", *, width: int = 16, height: int = 16) -> bytes:
    """Returns a PNG of this stated size, with further chunks before its pixels, which are those of 16x16 pixels."""
    pixels = zlib.compress(bytes((3 * 16 + 1) * 16))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            chunks,
            png_chunk(b"IDAT", pixels),
            png_chunk(b"IEND", b""),
        )
    )


def slow_png() -> bytes:
    """Returns a PNG of 30 MB in 2.5 million chunks, which takes many seconds to read."""
    return png_with(2_500_000 * png_chunk(b"prVt", b""))


def animation(kind: str, frames: int, *, side: int) -> bytes:
    """Returns an animated image of `side` by `side` pixels, whose frames differ."""
    buffer = io.BytesIO()
    images = [Image.new("RGB", (side, side), (index % 256, index // 256, 0)) for index in range(frames)]
    images[0].save(buffer, kind, save_all=True, append_images=images[1:])
    return buffer.getvalue()


class Growth:
    """Growth of this process's peak memory in bytes, once the context has ended."""

    bytes = 0


@contextmanager
def measuring_growth() -> Iterator[Growth]:
    """Measures the memory that the code in the context needs beyond what this process has already."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    growth, before = Growth(), _read_peak()
    yield growth
    growth.bytes = _read_peak() - before


def _read_peak() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024


_MEASURE = """
import json, sys
from pathlib import Path
from wan22_bridge.errors import Wan22Error
def read_peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
{setup}
path = Path(sys.argv[1])
before = read_peak()
try:
    {call}
    code = message = None
except Wan22Error as exc:
    code, message = exc.code, exc.message
except ValueError as exc:
    code, message = type(exc).__name__, str(exc)
print(json.dumps(dict(code=code, message=message, growth=read_peak() - before)))
"""


def measure(path: Path, setup: str, call: str) -> dict[str, Any]:
    """Runs a call on a file in a process of its own.

    Args:
        path: The file, which the call names `path`.
        setup: Imports.
        call: The call.

    Returns:
        The `code` and the `message` of the error, or None; and the `growth` of the process's peak memory in bytes.
    """
    program = _MEASURE.format(setup=setup, call=call)
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result
