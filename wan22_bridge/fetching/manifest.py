"""What a fetched model consists of: a file beside its files, by which they are checked."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from wan22_bridge.files import atomic_path

NAME = "wan22_manifest.json"
_READ_BYTES = 1 << 22


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """One file of a model, as the hub describes it."""

    path: str
    """Below the model's folder."""
    size: int
    """In bytes."""
    sha256: str | None
    """Of a large file."""
    blob_id: str | None
    """Of a small one: the SHA-1 that git gives its content."""
    cast_size: int | None = None
    """Once its weights were cast to bf16: its size then."""
    cast_sha256: str | None = None

    @property
    def sizes(self) -> set[int]:
        """That it may have."""
        return {self.size} | ({self.cast_size} if self.cast_size is not None else set())


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A model at one commit of its repository."""

    repository: str
    commit: str
    files: tuple[ModelFile, ...]

    @property
    def total_bytes(self) -> int:
        """Of all files, as they are fetched."""
        return sum(file.size for file in self.files)

    def with_file(self, changed: ModelFile) -> "Manifest":
        """The same, with other words about one file."""
        return replace(self, files=tuple(changed if file.path == changed.path else file for file in self.files))


class FileState(StrEnum):
    """How a file is found."""

    GOOD = "good"
    MISSING = "missing"
    WRONG_SIZE = "wrong_size"
    WRONG_CONTENT = "wrong_content"


def read_manifest(folder: Path) -> Manifest | None:
    """Reads a folder's manifest; None where there is none that can be read: the model is fetched anew then."""
    try:
        data = json.loads((folder / NAME).read_text("utf-8"))
        files = tuple(ModelFile(**file) for file in data["files"])
        return Manifest(repository=data["repository"], commit=data["commit"], files=files)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes it, whole or not at all."""
    with atomic_path(folder / NAME) as temporary:
        temporary.write_text(json.dumps(asdict(manifest), indent=1), "utf-8")


def check_files(
    folder: Path,
    manifest: Manifest,
    *,
    content: bool,
    tell: Callable[[int], None] = lambda _: None,
) -> dict[str, FileState]:
    """Looks at each file of a model.

    Args:
        folder: where they are.
        manifest: what they should be.
        content: whether they are read and hashed; else only their sizes are compared.
        tell: is told of bytes that have been read.
    """
    return {file.path: check_file(folder / file.path, file, content=content, tell=tell) for file in manifest.files}


def check_file(
    path: Path, file: ModelFile, *, content: bool, tell: Callable[[int], None] = lambda _: None
) -> FileState:
    """Looks at one file."""
    try:
        size = path.stat().st_size
    except OSError:
        return FileState.MISSING
    if size not in file.sizes:
        return FileState.WRONG_SIZE
    if content and not _is_right(path, file, size, tell):
        return FileState.WRONG_CONTENT
    return FileState.GOOD


def _is_right(path: Path, file: ModelFile, size: int, tell: Callable[[int], None]) -> bool:
    if file.sha256 is None:
        return file.blob_id is None or _hash(path, hashlib.sha1(b"blob %d\0" % size), tell) == file.blob_id
    return hash_file(path, tell) in (file.sha256, file.cast_sha256)


def hash_file(path: Path, tell: Callable[[int], None] = lambda _: None) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    return _hash(path, hashlib.sha256(), tell)


def _hash(path: Path, digest: "hashlib._Hash", tell: Callable[[int], None]) -> str:
    with path.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
            tell(len(chunk))
    return digest.hexdigest()
