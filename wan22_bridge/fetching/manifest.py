"""Manifest of a fetched model: a JSON file with the size and checksum of each model file."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from wan22_bridge.files import atomic_path

MANIFEST_NAME = "wan22_manifest.json"
_DAMAGE_NAME = "wan22_damaged"
"""Name of an empty file that marks a folder with a corrupted file of the right size, which only hashing finds."""
_READ_BYTES = 1 << 22


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """Size and checksum of one model file, as reported by the hub."""

    path: str
    """Path relative to the model's folder."""
    size: int
    """Size in bytes."""
    sha256: str | None
    """SHA-256 of a large file, which the hub stores in LFS."""
    blob_id: str | None
    """Git's SHA-1 of the content, by which small files are checked."""
    cast_size: int | None = None
    """Size in bytes after the cast to bf16; None before it."""
    cast_sha256: str | None = None
    """SHA-256 after the cast to bf16; None before it."""
    verified_mtime_ns: int | None = None
    """Time of the file's last change, in nanoseconds, when its content was last verified; None before that."""

    @property
    def hash(self) -> str:
        """The published hash, with the name of its algorithm."""
        return f"sha256:{self.sha256}" if self.sha256 else f"git:{self.blob_id}"

    @property
    def sizes(self) -> set[int]:
        """Valid sizes in bytes: of the original file, and of the cast one."""
        return {self.size} | ({self.cast_size} if self.cast_size is not None else set())


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Files of a model at one commit of its repository."""

    repository: str
    commit: str
    files: tuple[ModelFile, ...]

    @property
    def total_bytes(self) -> int:
        """Size of the whole download in bytes."""
        return sum(file.size for file in self.files)

    @property
    def hashes(self) -> dict[str, str]:
        """The published hash of each file, by its path."""
        return {file.path: file.hash for file in self.files}

    def with_file(self, changed: ModelFile) -> "Manifest":
        """Returns a copy in which one file's entry is replaced."""
        return replace(self, files=tuple(changed if file.path == changed.path else file for file in self.files))


class FileState(StrEnum):
    """Result of comparing a file with its manifest entry."""

    GOOD = "good"
    MISSING = "missing"
    WRONG_SIZE = "wrong_size"
    WRONG_CONTENT = "wrong_content"


def read_manifest(folder: Path) -> Manifest | None:
    """Reads a folder's manifest. Returns None if it is missing or damaged, so that the model is fetched again.

    A manifest of a version that accepted files without a hash counts as damaged.
    """
    try:
        data = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
        files = tuple(ModelFile(**file) for file in data["files"])
        if not all(file.sha256 or file.blob_id for file in files):
            return None
        return Manifest(repository=data["repository"], commit=data["commit"], files=files)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest atomically."""
    with atomic_path(folder / MANIFEST_NAME) as temporary:
        temporary.write_text(json.dumps(asdict(manifest), indent=1), "utf-8")


def mark_damage(folder: Path) -> None:
    """Marks a folder as damaged, so that its model is not used before the next fetch has hashed every file."""
    if folder.is_dir():
        (folder / _DAMAGE_NAME).touch()


def has_damage(folder: Path) -> bool:
    """Returns whether a folder is marked as damaged."""
    return (folder / _DAMAGE_NAME).exists()


def clear_damage(folder: Path) -> None:
    """Removes the mark from a folder whose files are all correct."""
    (folder / _DAMAGE_NAME).unlink(missing_ok=True)


def record_damage(folder: Path, states: Mapping[str, FileState]) -> None:
    """Marks a folder as damaged if a hashed file is corrupted, and removes the mark if all files are correct."""
    if {FileState.WRONG_SIZE, FileState.WRONG_CONTENT} & set(states.values()):
        mark_damage(folder)
    elif set(states.values()) <= {FileState.GOOD}:
        clear_damage(folder)


def check_files(
    folder: Path,
    manifest: Manifest,
    *,
    content: bool,
    report: Callable[[int], None] = lambda _: None,
) -> dict[str, FileState]:
    """Compares each file of a model with the manifest.

    Args:
        folder: Folder of the files.
        manifest: Expected files.
        content: Whether to hash the files. Otherwise only their sizes are compared.
        report: Called with the number of bytes after each read.

    Returns:
        The state of each file, by its path.
    """
    return {file.path: check_file(folder / file.path, file, content=content, report=report) for file in manifest.files}


def is_verified(folder: Path, file: ModelFile) -> bool:
    """Returns whether a file has not changed since its content was verified."""
    try:
        return file.verified_mtime_ns == (folder / file.path).stat().st_mtime_ns
    except OSError:
        return False


def check_file(
    path: Path, file: ModelFile, *, content: bool, report: Callable[[int], None] = lambda _: None
) -> FileState:
    """Compares one file with its manifest entry: see `check_files`."""
    try:
        size = path.stat().st_size
    except OSError:
        return FileState.MISSING
    if size not in file.sizes:
        return FileState.WRONG_SIZE
    if content and not _has_right_checksum(path, file, size, report):
        return FileState.WRONG_CONTENT
    return FileState.GOOD


def _has_right_checksum(path: Path, file: ModelFile, size: int, report: Callable[[int], None]) -> bool:
    if file.sha256 is None:
        return _hash(path, hashlib.sha1(b"blob %d\0" % size), report) == file.blob_id
    return hash_file(path, report) in (file.sha256, file.cast_sha256)


def hash_file(path: Path, report: Callable[[int], None] = lambda _: None) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal."""
    return _hash(path, hashlib.sha256(), report)


def _hash(path: Path, digest: "hashlib._Hash", report: Callable[[int], None]) -> str:
    with path.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
            report(len(chunk))
    return digest.hexdigest()
