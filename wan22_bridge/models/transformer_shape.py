"""Shape of a model's transformer, read from its config. Imports no torch, because the job service uses it."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import configs
from wan22_bridge.builtin import find_parts
from wan22_bridge.catalogue import ModelSpec, SourceKind
from wan22_bridge.experts import Expert
from wan22_bridge.types import ModelType

_BLOCK = re.compile(r"blocks\.(\d{1,9})\.", re.ASCII)
_MODULATIONS = 6
"""Shifts, scales and gates of a block, which the time projection computes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerShape:
    """Sizes that decide which LoRAs fit a transformer."""

    width: int
    """Channels of the hidden states."""
    layers: int
    """Number of blocks."""
    ffn: int
    """Hidden channels of the feed-forward networks."""
    in_channels: int
    out_channels: int
    """Channels of a patch in the output."""
    text_channels: int
    time_channels: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "TransformerShape":
        """Reads the shape from a transformer's config.

        Raises:
            KeyError: A size is missing.
        """
        return cls(
            width=config["num_attention_heads"] * config["attention_head_dim"],
            layers=config["num_layers"],
            ffn=config["ffn_dim"],
            in_channels=config["in_channels"],
            out_channels=config["out_channels"] * math.prod(config["patch_size"]),
            text_channels=config["text_dim"],
            time_channels=config["freq_dim"],
        )

    @property
    def bf16_bytes(self) -> int:
        """Approximate size of an expert's weights in bf16: the linear layers of its blocks."""
        return 2 * self.layers * (8 * self.width**2 + 2 * self.width * self.ffn)

    def channels(self, layer: str) -> tuple[int, int] | None:
        """Returns the output and input channels of a layer.

        Args:
            layer: Name in diffusers' transformer, such as `blocks.0.attn1.to_q`.

        Returns:
            None if the transformer has no such layer, or LoRAs do not apply to it.
        """
        width = self.width
        others = {
            "patch_embedding": (width, self.in_channels),
            "proj_out": (self.out_channels, width),
            "condition_embedder.time_proj": (_MODULATIONS * width, width),
            "condition_embedder.time_embedder.linear_1": (width, self.time_channels),
            "condition_embedder.time_embedder.linear_2": (width, width),
            "condition_embedder.text_embedder.linear_1": (width, self.text_channels),
            "condition_embedder.text_embedder.linear_2": (width, width),
        }
        block = block_number(layer)
        if block is None:
            return others.get(layer)
        if block >= self.layers:
            return None
        inner = layer.split(".", 2)[2]
        if inner in ("ffn.net.0.proj", "ffn.net.2"):
            return (self.ffn, width) if inner == "ffn.net.0.proj" else (width, self.ffn)
        attention, _, projection = inner.partition(".")
        if attention in ("attn1", "attn2") and projection in ("to_q", "to_k", "to_v", "to_out.0"):
            return width, width
        return None


def block_number(layer: str) -> int | None:
    """Returns the number of the block that a layer is in, counted from 0, or None if it is in none."""
    match = _BLOCK.match(layer)
    return int(match[1]) if match else None


def find_shape(spec: ModelSpec) -> TransformerShape | None:
    """Returns the shape of a model's experts, or None if the config in the model's own folder can't be read."""
    if spec.path is not None:
        return _read(spec.path / Expert.HIGH_NOISE / "config.json")
    if spec.source_kind is SourceKind.BUILTIN:
        return _read(find_parts(spec.source_ref)[Expert.HIGH_NOISE] / "config.json")
    return published_shapes()[spec.type]


@cache
def published_shapes() -> Mapping[ModelType, TransformerShape]:
    """Returns the shapes of the three published models."""
    data = yaml.safe_load(configs.architectures_file().read_text("utf-8"))["architectures"]
    return {ModelType(name): TransformerShape.of(entry["transformer"]) for name, entry in data.items()}


def _read(path: Path) -> TransformerShape | None:
    try:
        return TransformerShape.of(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the loader reports what is wrong with the folder
