"""configs/models.yaml → ModelSpec: which models there are and what each takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

import configs
from wan22_bridge.plans import Quantization
from wan22_bridge.types import ModelType


class ImageInput(StrEnum):
    """Whether a model takes a first frame."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class SourceKind(StrEnum):
    """Where a model's files come from."""

    BUILTIN = "builtin"
    HUB = "hub"


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """Other defaults of a model; None is "as the model's own"."""

    steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    flow_shift: float | None = None
    negative_prompt: str | None = None
    loras: tuple[str, ...] = ()
    """Put on at full strength, beside those that the request names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """One model of the catalogue: its source, its defaults and its limits."""

    id: str
    type: ModelType
    title: str
    source_kind: SourceKind
    source_ref: str
    """The member of the tiny family, or the repository on the hub."""
    image: ImageInput
    end_image: bool
    size: tuple[int, int]
    """Width and height that a request gets that names none."""
    sizes: tuple[tuple[int, int], ...]
    size_multiple: int
    max_pixels: int
    num_frames: int
    max_frames: int
    fps: int
    steps: int
    guidance_scale: float
    guidance_scale_2: float | None
    flow_shift: float
    negative_prompt: str
    presets: Mapping[str, Preset]
    path: Path | None = None
    """A folder on this machine in place of the source."""
    revision: str | None = None
    """Of the repository on the hub: a commit, a tag or a branch; the newest by default."""
    quantization: Quantization | None = None
    """How its experts' weights are stored, where it is not as for other models."""

    @property
    def is_fetched(self) -> bool:
        """Whether its files have to be fetched before it can be used."""
        return self.path is None and self.source_kind is SourceKind.HUB

    @property
    def video(self) -> bool:
        """Whether it can make a video anew. Image-to-video models can't: they see nothing but the first frame."""
        return self.type is not ModelType.I2V


def load_catalogue() -> dict[str, ModelSpec]:
    """Reads every model that this version knows, by id."""
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
        }
    )


def _parse_preset(entry: Mapping[str, Any]) -> Preset:
    return Preset(**dict(entry) | {"loras": tuple(entry.get("loras", ()))})


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)
