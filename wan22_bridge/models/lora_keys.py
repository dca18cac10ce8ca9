"""Names of the tensors in LoRA files, as several trainers write them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PREFIXES = re.compile(r"(diffusion_model|transformer|transformer_2)\.")
_MUSUBI_PREFIX = "lora_unet_"
_WEIGHT = re.compile(r"(.+)\.lora_(A|B|down|up)\.weight")
_IGNORED = re.compile(r".+(\.alpha|\.lora_B\.bias|\.diff_b|\.diff)")
"""Tensors that scale or accompany the weights of a layer."""
_ORIGINAL_NAMES = (
    (r"\.self_attn\.", ".attn1."),
    (r"\.cross_attn\.", ".attn2."),
    (r"(\.attn[12])\.([qkv])$", r"\1.to_\2"),
    (r"(\.attn[12])\.o$", r"\1.to_out.0"),
    (r"(blocks\.\d+)\.ffn\.0$", r"\1.ffn.net.0.proj"),
    (r"(blocks\.\d+)\.ffn\.2$", r"\1.ffn.net.2"),
    (r"^text_embedding\.0$", "condition_embedder.text_embedder.linear_1"),
    (r"^text_embedding\.2$", "condition_embedder.text_embedder.linear_2"),
    (r"^time_embedding\.0$", "condition_embedder.time_embedder.linear_1"),
    (r"^time_embedding\.2$", "condition_embedder.time_embedder.linear_2"),
    (r"^time_projection\.1$", "condition_embedder.time_proj"),
    (r"^head\.head$", "proj_out"),
)
"""Layers' names in Wan's own code, and in diffusers."""
_MUSUBI_LAYER = re.compile(r"blocks_(\d+)_(self_attn|cross_attn)_(q|k|v|o|k_img|v_img)|blocks_(\d+)_ffn_([02])")
_WAN21_I2V = re.compile(r"add_[kv]_proj|image_embedder|norm_added_k|[kv]_img|img_emb")
"""Layers of Wan2.1 image-to-video models that Wan2.2 models do not have."""
_OTHER_KINDS = (
    (re.compile(r"\.lokr_"), "a LoKr, which this service does not support"),
    (re.compile(r"\.hada_"), "a LoHa, which this service does not support"),
    (re.compile(r"dora_scale"), "a DoRA, which this service does not support"),
    (re.compile(r"lora_te\d?_"), "for a text encoder, which this service does not support"),
    (re.compile(r"double_blocks|single_blocks|transformer_blocks"), "for a model of another family"),
    (re.compile(r"lora_unet_(down|mid|up|input|output|middle)_block"), "for Stable Diffusion"),
)


class NoWan22Lora(ValueError):
    """The file holds no LoRA for a Wan2.2 model. The message completes the sentence `The file is …`."""


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """Low-rank weights of one layer."""

    name: str
    """Name in diffusers' transformer, such as `blocks.0.attn1.to_q`."""
    rank: int
    out_channels: int
    in_channels: int


def parse_layers(shapes: Mapping[str, tuple[int, ...]]) -> list[LoraLayer]:
    """Returns the layers that a file changes, from its tensors' names and shapes.

    Args:
        shapes: Shape of each tensor by its name.

    Raises:
        NoWan22Lora: The file holds something else, or a LoRA of a kind that is not supported.
    """
    halves: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        for pattern, kind in _OTHER_KINDS:
            if pattern.search(key):
                raise NoWan22Lora(kind)
        if _WAN21_I2V.search(key):
            raise NoWan22Lora("for Wan2.1 image-to-video, whose image embedding Wan2.2 does not have")
        match = _WEIGHT.fullmatch(key)
        if match is not None and len(shape) >= 2:
            halves.setdefault(_layer_name(match[1]), {})["A" if match[2] in ("A", "down") else "B"] = shape
        elif not _IGNORED.fullmatch(key):
            raise NoWan22Lora(f"no LoRA: it holds {key[:80]!r}, which is not a LoRA weight")
    if not halves:
        raise NoWan22Lora("no LoRA: it holds no LoRA weights")
    return [_join(name, parts) for name, parts in sorted(halves.items())]


def _join(name: str, parts: Mapping[str, tuple[int, ...]]) -> LoraLayer:
    if len(parts) < 2:
        raise NoWan22Lora(f"incomplete: it has one of the two weights for {name[:80]}")
    down, up = parts["A"], parts["B"]
    if down[0] != up[1]:
        raise NoWan22Lora(f"incorrect: its two weights for {name[:80]} have the ranks {down[0]} and {up[1]}")
    return LoraLayer(name, rank=down[0], out_channels=up[0], in_channels=down[1])


def _layer_name(name: str) -> str:
    """Returns a layer's name in diffusers' transformer. A name of an unknown form stays as it is."""
    if name.startswith(_MUSUBI_PREFIX):
        match = _MUSUBI_LAYER.fullmatch(name.removeprefix(_MUSUBI_PREFIX))
        if match is None:
            return name
        name = f"blocks.{match[1]}.{match[2]}.{match[3]}" if match[1] else f"blocks.{match[4]}.ffn.{match[5]}"
    name = _PREFIXES.sub("", name, count=1) if _PREFIXES.match(name) else name
    for pattern, replacement in _ORIGINAL_NAMES:
        name = re.sub(pattern, replacement, name)
    return name
