"""The file that a video is saved to."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class UnusableOutput(Exception):
    """A video cannot be saved under this name."""


def check_output(name: str) -> Path:
    """Returns the path to save to, after creating a file there and removing it.

    Permissions alone do not show whether saving can work: root ignores them, and file systems reject some names.

    Args:
        name: the path as the user typed it. `clip/` names a folder, even where none exists.

    Raises:
        UnusableOutput: no file can be written there.
    """
    path = Path(name)
    try:
        target = path.resolve()
        mode = target.stat().st_mode if target.exists() else None
        if os.path.basename(name) in ("", os.curdir, os.pardir) or (mode is not None and stat.S_ISDIR(mode)):
            raise UnusableOutput(f"Cannot save a video as {name!r}: expected a file, got a folder.")
        if mode is None:
            with target.open("xb"):
                target.unlink()
        elif stat.S_ISREG(mode):
            tempfile.TemporaryFile(dir=target.parent).close()
        elif stat.S_ISSOCK(mode):
            raise UnusableOutput(f"Cannot save a video as {name!r}: expected a file, got a socket.")
    except (OSError, RuntimeError, ValueError) as exc:
        raise UnusableOutput(f"Cannot save a video as {name!r}: {describe_failure(exc)}.") from exc
    return path


def check_folder(folder: Path) -> None:
    """Creates a file in a folder and removes it.

    Raises:
        UnusableOutput: no file can be created there.
    """
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as exc:
        raise UnusableOutput(f"Cannot save a video in the folder {str(folder)!r}: {describe_failure(exc)}.") from exc


@contextmanager
def open_output(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file that gets its name when the context ends. After an error there is no file.

    A pipe or a device is written to directly.

    Raises:
        OSError: the file cannot be written.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    descriptor, name = tempfile.mkstemp(prefix=".wan22-", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def describe_failure(error: Exception) -> str:
    """Returns the reason for a failed file operation, without the path."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
