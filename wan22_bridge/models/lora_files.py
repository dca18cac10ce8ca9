"""LoRA files: discovery in the folder of LoRAs, and their descriptions.

This module does not import torch, because the job service imports this module.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wan22_bridge.builtin import BUILTIN_LORAS
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.experts import Expert
from wan22_bridge.models.lora_triggers import find_trigger_words
from wan22_bridge.models.safetensors_header import UnreadableHeader, read_header
from wan22_bridge.reasons import find_reason
from wan22_bridge.types import ModelType

MAX_BYTES = 4 * 2**30
"""Maximum size of a file. A LoRA of rank 128 for an A14B expert has about 2.5 GB in fp32."""
SUFFIX = ".safetensors"
EXPERT_ENDINGS: Mapping[Expert | None, str] = {
    None: "",
    Expert.HIGH_NOISE: ".high_noise",
    Expert.LOW_NOISE: ".low_noise",
}
"""Ending of a file's name, before the suffix, by its expert. None stands for both experts."""
_NAME = re.compile(r"[\w-](?:[\w. -]{0,98}[\w-])?")
_MAX_NAME_BYTES = 200
"""File systems limit the bytes of a file's name, with its endings, to 255."""
_TYPES = re.compile(r"(?<![a-z])(ti2v|t2v|i2v)(?![a-z])", re.IGNORECASE)
_TYPE_OF = {"ti2v": ModelType.TI2V, "t2v": ModelType.T2V, "i2v": ModelType.I2V}


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraFiles:
    """Files of one LoRA: a file for both experts, or a file for each expert."""

    name: str
    high_noise: Path | None
    """File for the high-noise expert."""
    low_noise: Path | None
    """File for the low-noise expert. Equals `high_noise` if one file is for both experts."""
    trigger_words: tuple[str, ...]
    """Words in the prompt that activate the LoRA, from the files' metadata or from a file beside them."""
    model_type: ModelType | None
    """Model type for which the LoRA was trained, if its metadata or its name tells."""
    size_bytes: int
    """Total size of the files."""
    modified_at: float
    """Time at which the newest file was written, in seconds since the epoch."""
    identity: str
    """Name for the files' content, which changes when a file is replaced."""

    @property
    def paths(self) -> list[Path]:
        """The files, each once."""
        return [path for path in dict.fromkeys((self.high_noise, self.low_noise)) if path is not None]

    @property
    def is_builtin(self) -> bool:
        """Whether the LoRA is part of this package."""
        return self.paths[0].parent == BUILTIN_LORAS

    @property
    def adapter(self) -> str:
        """Name for the loaded weights. PyTorch forbids dots in the names of modules."""
        return f"{self.name}@{self.identity}".replace(".", "%")

    def of(self, expert: Expert) -> Path | None:
        """Returns the file for one expert, or None if the LoRA has none for it."""
        return self.high_noise if expert is Expert.HIGH_NOISE else self.low_noise


def is_lora_name(name: str) -> bool:
    """Returns whether a LoRA can have this name.

    A name has letters, digits, `_` and `-`, and dots and spaces between them.
    """
    return _NAME.fullmatch(name) is not None and len(name.encode()) <= _MAX_NAME_BYTES


def split_file_name(file_name: str) -> tuple[str, Expert | None]:
    """Returns the LoRA's name and the expert that a file's name in the folder stands for; None is both experts."""
    stem = file_name.removesuffix(SUFFIX)
    for expert, ending in EXPERT_ENDINGS.items():
        if ending and stem.endswith(ending):
            return stem.removesuffix(ending), expert
    return stem, None


def list_loras(folder: Path) -> list[LoraFiles]:
    """Returns all usable LoRAs in the folder and all built-in LoRAs, sorted by name.

    A LoRA is a file NAME.safetensors, or the files NAME.high_noise.safetensors and NAME.low_noise.safetensors.
    """
    found = []
    for name in _list_names(folder):
        try:
            found.append(find_lora(folder, name))
        except InvalidRequest:
            continue
    return found


def find_lora(folder: Path, name: str) -> LoraFiles:
    """Finds a LoRA by its name, in the folder or else among the built-in LoRAs.

    Raises:
        InvalidRequest: There is no such LoRA, or its file is too large or not in the safetensors format.
    """
    high, low = _find_files(folder, name)
    files = [path for path in dict.fromkeys((high, low)) if path is not None]
    if not files:
        raise _unknown(folder, name)
    stats = [path.stat() for path in files]
    for stat in stats:
        check_size(name, stat.st_size)
    try:
        metadata = [read_header(path).metadata for path in files]
    except (OSError, UnreadableHeader) as exc:
        raise unreadable(name, exc) from exc
    return LoraFiles(
        name=name,
        high_noise=high,
        low_noise=low,
        trigger_words=find_trigger_words(files, metadata),
        model_type=_find_type([found.get("modelspec.architecture", "") for found in metadata], name),
        size_bytes=sum(stat.st_size for stat in stats),
        modified_at=max(stat.st_mtime for stat in stats),
        identity="-".join(f"{stat.st_size:x}-{stat.st_mtime_ns:x}" for stat in stats),
    )


def lora_paths(folder: Path, name: str) -> list[Path]:
    """Returns the files of a LoRA in this folder, usable or not."""
    paths = [folder / f"{name}{ending}{SUFFIX}" for ending in EXPERT_ENDINGS.values()] if is_lora_name(name) else []
    return [path for path in paths if path.is_file()]


def check_size(name: str, size_bytes: int) -> None:
    """Checks the size of a LoRA's file.

    Raises:
        InvalidRequest: The file is too large.
    """
    if size_bytes > MAX_BYTES:
        raise InvalidRequest(
            f"The LoRA {name} is too large: {size_bytes / 2**30:.1f} GB, allowed are at most "
            f"{MAX_BYTES / 2**30:.0f} GB.",
            code="lora_too_large",
            param="loras",
            suggestions=["Use a LoRA of a lower rank, or in bf16."],
        )


def unreadable(name: str, error: Exception) -> InvalidRequest:
    """Returns the error for a file that can't be read as safetensors."""
    return InvalidRequest(
        f"The LoRA {name} is not a safetensors file: {find_reason(error)}.",
        code="lora_unreadable",
        param="loras",
        suggestions=["Use a file in the safetensors format.", "Download the file again."],
    )


def _find_type(architectures: list[str], name: str) -> ModelType | None:
    """Returns the model type that the metadata names, or else the LoRA's name."""
    for text in (*architectures, name):
        if match := _TYPES.search(text):
            return _TYPE_OF[match[1].lower()]
    return None


def _find_files(folder: Path, name: str) -> tuple[Path | None, Path | None]:
    for place in (folder, BUILTIN_LORAS) if is_lora_name(name) else ():
        both, high, low = (place / f"{name}{ending}{SUFFIX}" for ending in EXPERT_ENDINGS.values())
        if both.is_file():
            return both, both
        if high.is_file() or low.is_file():
            return high if high.is_file() else None, low if low.is_file() else None
    return None, None


def _list_names(folder: Path) -> list[str]:
    names = {path.name for place in (folder, BUILTIN_LORAS) for path in place.glob(f"*{SUFFIX}")}
    return sorted({name for file_name in names if is_lora_name(name := split_file_name(file_name)[0])})


def _unknown(folder: Path, name: str) -> InvalidRequest:
    available = _list_names(folder)
    return InvalidRequest(
        f"There is no LoRA {name[:80]!r}.",
        code="lora_not_found",
        param="loras",
        suggestions=[
            f"Available LoRAs: {', '.join(available[:20])}."
            if available
            else "Put the .safetensors file into the folder of LoRAs."
        ],
    )
