"""LoRA files: discovery in the folder of LoRAs, and the metadata in the files' headers.

This module does not import torch, because the job service imports this module.
"""

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wan22_bridge.builtin import BUILTIN_LORAS
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.experts import Expert

MAX_BYTES = 4 * 2**30
"""Maximum size of a file. A LoRA of rank 128 for an A14B expert has about 2.5 GB in fp32."""
_MAX_HEADER_BYTES = 100 * 2**20
_NAME = re.compile(r"[\w-]{1,100}")
_HIGH, _LOW = ".high_noise", ".low_noise"
_TRIGGER_KEYS = ("modelspec.trigger_phrase", "trigger_words", "trigger_phrase", "ss_trigger_words")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraFiles:
    """Files of one LoRA: a file for both experts, or a file for each expert."""

    name: str
    high_noise: Path | None
    """File for the high-noise expert."""
    low_noise: Path | None
    """File for the low-noise expert. Equals `high_noise` if one file is for both experts."""
    trigger_words: str
    """Words in the prompt that activate the LoRA, from the files' metadata. Often empty."""
    size_bytes: int
    """Total size of the files."""
    identity: str
    """Name for the files' content, which changes when a file is replaced."""

    def of(self, expert: Expert) -> Path | None:
        """Returns the file for one expert, or None if the LoRA has none for it."""
        return self.high_noise if expert is Expert.HIGH_NOISE else self.low_noise


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
    high, low = _find_files(folder, name) if _NAME.fullmatch(name) else (None, None)
    files = [path for path in dict.fromkeys((high, low)) if path is not None]
    if not files:
        raise _unknown(folder, name)
    stats = [path.stat() for path in files]
    for stat in stats:
        if stat.st_size > MAX_BYTES:
            raise InvalidRequest(
                f"The LoRA {name} is too large: {stat.st_size / 2**30:.1f} GB, allowed are at most "
                f"{MAX_BYTES / 2**30:.0f} GB.",
                code="lora_too_large",
                param="loras",
                suggestions=["Use a LoRA of a lower rank, or in bf16."],
            )
    metadata = [_read_metadata(name, path) for path in files]
    triggers = [str(found[key]) for found in metadata for key in _TRIGGER_KEYS if found.get(key)]
    return LoraFiles(
        name=name,
        high_noise=high,
        low_noise=low,
        trigger_words=triggers[0] if triggers else "",
        size_bytes=sum(stat.st_size for stat in stats),
        identity="-".join(f"{stat.st_size:x}-{stat.st_mtime_ns:x}" for stat in stats),
    )


def _name_of(path: Path) -> str:
    return path.name.removesuffix(".safetensors").removesuffix(_HIGH).removesuffix(_LOW)


def _find_files(folder: Path, name: str) -> tuple[Path | None, Path | None]:
    for place in (folder, BUILTIN_LORAS):
        both, high, low = (place / f"{name}{end}.safetensors" for end in ("", _HIGH, _LOW))
        if both.is_file():
            return both, both
        if high.is_file() or low.is_file():
            return high if high.is_file() else None, low if low.is_file() else None
    return None, None


def _list_names(folder: Path) -> list[str]:
    paths = [path for place in (folder, BUILTIN_LORAS) for path in place.glob("*.safetensors")]
    return sorted({name for path in paths if _NAME.fullmatch(name := _name_of(path))})


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


def _read_metadata(name: str, path: Path) -> dict[str, Any]:
    """Reads the metadata in a file's header, without loading tensors."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_HEADER_BYTES:
                raise ValueError("the header is too long")
            header = json.loads(file.read(length))
        metadata = header.get("__metadata__", {})
        if not isinstance(metadata, dict):
            raise ValueError("the metadata is not a JSON object")
    except (OSError, ValueError, struct.error, AttributeError) as exc:
        raise InvalidRequest(
            f"The LoRA {name} is not a safetensors file: {str(exc)[:120]}.",
            code="lora_unreadable",
            param="loras",
            suggestions=["Use a file in the safetensors format.", "Download the file again."],
        ) from exc
    return metadata
