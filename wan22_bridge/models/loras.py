"""LoRAs on a model's experts: checked before they change an expert, and unloaded without a trace."""

import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import WanPipeline, WanTransformer3DModel
from safetensors import SafetensorError
from safetensors.torch import load_file

from wan22_bridge.errors import InvalidRequest
from wan22_bridge.experts import Expert
from wan22_bridge.models.lora_files import LoraFiles, find_lora
from wan22_bridge.models.lora_fit import incompatible
from wan22_bridge.reasons import find_reason
from wan22_bridge.types import LoraUse

logger = logging.getLogger(__name__)

_PREFIXES = ("transformer.", "transformer_2.")
_WAN21_I2V_LAYERS = ("add_k_proj", "add_v_proj", "image_embedder", "norm_added_k")
"""Layers of Wan2.1 image-to-video models that Wan2.2 models do not have."""


class LoraRack:
    """LoRAs of one generation, applied to the expert that works."""

    def __init__(self, folder: Path, uses: Sequence[LoraUse]) -> None:
        """Finds the LoRAs' files.

        Raises:
            InvalidRequest: A LoRA does not exist, or its file can't be used.
        """
        self._uses = uses
        self._files: Mapping[str, LoraFiles] = {use.name: find_lora(folder, use.name) for use in uses}

    @property
    def identity(self) -> str:
        """Name for the LoRAs' files. A snapshot is valid only for equal names. Empty without LoRAs."""
        return " ".join(f"{name} {files.identity}" for name, files in sorted(self._files.items()))

    @property
    def bytes_on_an_expert(self) -> int:
        """Total size of the LoRA files for one expert: the larger total of the two experts."""

        def total(name: Expert) -> int:
            paths = (files.of(name) for files in self._files.values())
            return sum(path.stat().st_size for path in paths if path is not None)

        return max(total(name) for name in Expert)

    def use(self, module: WanTransformer3DModel, expert: Expert) -> None:
        """Applies exactly these LoRAs to an expert, each at its strength.

        Args:
            module: The expert's module, changed in place.
            expert: The expert's name.

        Raises:
            InvalidRequest: A LoRA can't be read or is for another model. The expert is then left without LoRAs.
        """
        wanted = self._wanted(expert)
        present = list(getattr(module, "peft_config", {}))
        try:
            for name in wanted:
                if name not in present:
                    files = next(files for files in self._files.values() if files.adapter == name)
                    _load_adapter(module, files, _read(files, expert))
        except InvalidRequest:
            unload_loras(module)
            raise
        if not wanted:
            unload_loras(module)
            return
        if stale := [name for name in present if name not in wanted]:
            module.delete_adapters(stale)
        module.set_adapters(list(wanted), list(wanted.values()))

    def has_other(self, module: WanTransformer3DModel, expert: Expert) -> bool:
        """Returns whether an expert has other LoRAs than these, regardless of their strengths."""
        return set(self._wanted(expert)) != set(getattr(module, "peft_config", {}))

    def _wanted(self, expert: Expert) -> dict[str, float]:
        """Returns the strengths of the expert's adapters by name. A file that changed has another name."""
        wanted = {}
        for use in self._uses:
            strength = use.strength_on(expert)
            files = self._files[use.name]
            if strength and files.of(expert) is not None:
                wanted[files.adapter] = strength
        return wanted


def unload_loras(expert: WanTransformer3DModel) -> None:
    """Unloads all LoRAs from an expert and restores its original layers."""
    if getattr(expert, "peft_config", None):
        expert.unload_lora()


def _load_adapter(expert: WanTransformer3DModel, files: LoraFiles, weights: dict[str, torch.Tensor]) -> None:
    _check(expert, files.name, weights)
    prefixed = {f"transformer.{key}": value for key, value in weights.items()}
    try:
        with warnings.catch_warnings():
            # Several LoRAs at once are intended, and no LoRA is ever merged into the weights.
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            warnings.filterwarnings("ignore", "TorchaoLoraLinear was instantiated")
            expert.load_lora_adapter(prefixed, prefix="transformer", adapter_name=files.adapter)
    except (ValueError, RuntimeError, KeyError) as exc:
        raise _incompatible(files.name, f"the weights can't be loaded: {find_reason(exc)}") from exc
    _restore_precision(expert, files.adapter, weights)
    logger.info("Loaded the LoRA %s", files.name, extra={"action": "lora_loaded"})


def _restore_precision(expert: WanTransformer3DModel, name: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Restores an adapter's weights on fp8 layers, because peft casts the weights to the dtype of their layer."""
    dtype = expert.patch_embedding.weight.dtype
    for parameter_name, parameter in expert.named_parameters():
        if f".{name}." in parameter_name and parameter.dtype.itemsize < dtype.itemsize:
            value = weights[parameter_name.replace(f".{name}.", ".")]
            parameter.data = value.to(parameter.device, dtype)


def _read(files: LoraFiles, expert: Expert) -> dict[str, torch.Tensor]:
    """Reads a LoRA's weights for an expert, named as in diffusers, without the prefix for the expert."""
    path = files.of(expert)
    assert path is not None
    try:
        weights = WanPipeline.lora_state_dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, IndexError) as exc:
        reason = f"the file can't be read: {find_reason(exc)} ({type(exc).__name__})"
        raise _incompatible(files.name, reason) from exc
    stripped = {}
    for key, value in weights.items():
        prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), "")
        stripped[key.removeprefix(prefix)] = value
    return stripped


def _check(expert: WanTransformer3DModel, name: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Rejects a LoRA for another model before it changes this model's expert."""
    layers = {
        layer.replace(".base_layer", ""): module
        for layer, module in expert.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv3d)) and ".lora_" not in layer
    }
    found = 0
    for key, value in weights.items():
        match = re.fullmatch(r"(.+)\.lora_([AB])\.weight", key)
        if match is None:
            if key.endswith((".lora_B.bias", ".alpha")):
                continue
            raise _incompatible(name, f"the file holds {key[:80]!r}, which is not a LoRA weight")
        layer = layers.get(match[1])
        if layer is None and any(part in key for part in _WAN21_I2V_LAYERS):
            raise _incompatible(
                name, "the LoRA is for Wan2.1 image-to-video, whose image embedding Wan2.2 does not have"
            )
        if layer is None:
            raise _incompatible(name, f"the model has no layer {match[1][:80]}")
        axis = 1 if match[2] == "A" else 0
        channels, expected = value.shape[axis : axis + 1], _channels(layer)[axis]
        if value.ndim < 2 or channels[0] != expected:
            raise _incompatible(
                name,
                f"the weights for {match[1]} have {', '.join(map(str, channels)) or 'no'} channels, and this model "
                f"has {expected}: the LoRA is for a model of another size",
            )
        found += 1
    if not found:
        raise _incompatible(name, "the file holds no LoRA weights")


def _channels(layer: torch.nn.Linear | torch.nn.Conv3d) -> tuple[int, int]:
    """Returns a layer's output and input channels.

    The layer's attributes are read instead of its weights, because quantized weights have other shapes.
    """
    if isinstance(layer, torch.nn.Linear):
        return layer.out_features, layer.in_features
    return layer.out_channels, layer.in_channels


def _incompatible(name: str, reason: str) -> InvalidRequest:
    return incompatible(name, f"can't be used with this model: {reason}")
