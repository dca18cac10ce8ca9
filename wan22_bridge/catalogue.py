"""The models of configs/models.yaml, with their sources, defaults and limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import configs
from wan22_bridge.plans import Quantization
from wan22_bridge.types import ModelType


class ImageInput(StrEnum):
    """Whether a model accepts an image as the first frame."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class SourceKind(StrEnum):
    """Source of a model's files."""

    BUILTIN = "builtin"
    HUB = "hub"


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """Named set of defaults; a field that is None keeps the model's own default."""

    steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    flow_shift: float | None = None
    negative_prompt: str | None = None
    loras: tuple[str, ...] = ()
    """LoRAs applied at full strength, in addition to those of the request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """One model of the catalogue, with its source, defaults and limits."""

    id: str
    type: ModelType
    title: str
    source_kind: SourceKind
    source_ref: str
    """Member of the tiny family, or repository on the hub."""
    image: ImageInput
    end_image: bool
    size: tuple[int, int]
    """Default width and height in pixels."""
    sizes: tuple[tuple[int, int], ...]
    """Recommended widths and heights in pixels."""
    size_multiple: int
    """Number that divides every width and height."""
    max_pixels: int
    """Maximum pixels per frame."""
    num_frames: int
    """Default frame count."""
    max_frames: int
    fps: int
    steps: int
    guidance_scale: float
    guidance_scale_2: float | None
    flow_shift: float
    negative_prompt: str
    presets: Mapping[str, Preset]
    examples: tuple[str, ...] = ()
    """Prompts that suit the model, for people who try it."""
    path: Path | None = None
    """Folder on this machine that replaces the source."""
    revision: str | None = None
    """Commit, tag or branch of the repository on the hub; by default the newest commit of its main branch."""
    locked_files: Mapping[str, str] | None = None
    """The hash of each file that a lock file pins, by the file's path; None without a lock file."""
    quantization: Quantization | None = None
    """Quantization of the experts for this model alone; by default that of the generator's settings."""

    @property
    def is_fetched(self) -> bool:
        """Whether the model's files come from the hub."""
        return self.path is None and self.source_kind is SourceKind.HUB

    @property
    def video(self) -> bool:
        """Whether the model supports video-to-video, which image-to-video models don't."""
        return self.type is not ModelType.I2V


@cache
def load_catalogue() -> Mapping[str, ModelSpec]:
    """Loads every model of this version's catalogue, by id."""
    data = yaml.safe_load(configs.models_file().read_text("utf-8"))
    return {model_id: _parse_spec(model_id, entry) for model_id, entry in data["models"].items()}


def _parse_spec(model_id: str, entry: Mapping[str, Any]) -> ModelSpec:
    values = dict(entry)
    source = values.pop("source")
    return ModelSpec(
        **values
        | {
            "id": model_id,
            "type": ModelType(values["type"]),
            "source_kind": SourceKind(source["kind"]),
            "source_ref": source["ref"],
            "image": ImageInput(values["image"]),
            "presets": {name: _parse_preset(preset) for name, preset in values["presets"].items()},
            "size": _parse_size(values["size"]),
            "sizes": tuple(_parse_size(size) for size in values["sizes"]),
            "examples": tuple(values["examples"]),
        }
    )


def _parse_preset(entry: Mapping[str, Any]) -> Preset:
    return Preset(**dict(entry) | {"loras": tuple(entry.get("loras", ()))})


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)
