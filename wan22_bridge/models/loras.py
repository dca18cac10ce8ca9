"""LoRAs: found in a folder, judged before they touch a model, put onto its experts and taken off without a trace."""

import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import WanPipeline, WanTransformer3DModel
from safetensors import SafetensorError
from safetensors.torch import load_file

from wan22_bridge.errors import InvalidRequest
from wan22_bridge.experts import Expert
from wan22_bridge.models.lora_files import LoraFiles, find_lora
from wan22_bridge.types import LoraUse

logger = logging.getLogger(__name__)

_PREFIXES = ("transformer.", "transformer_2.")
_OF_WAN21_I2V = ("add_k_proj", "add_v_proj", "image_embedder", "norm_added_k")


@dataclass(frozen=True, slots=True)
class _Adapter:
    name: str
    strength: float


class LoraRack:
    """The LoRAs of one run, on whichever expert works."""

    def __init__(self, folder: Path, uses: Sequence[LoraUse]) -> None:
        """Finds the files.

        Raises:
            InvalidRequest: one is not there.
        """
        self._uses = uses
        self._files: Mapping[str, LoraFiles] = {use.name: find_lora(folder, use.name) for use in uses}

    @property
    def identity(self) -> str:
        """Names the files: a snapshot belongs to them too. Empty without LoRAs."""
        return " ".join(f"{name} {files.identity}" for name, files in sorted(self._files.items()))

    @property
    def bytes_on_an_expert(self) -> int:
        """What the files of one expert take, the larger of the two."""

        def total(name: Expert) -> int:
            paths = (files.of(name) for files in self._files.values())
            return sum(path.stat().st_size for path in paths if path is not None)

        return max(total(name) for name in Expert)

    def use(self, module: WanTransformer3DModel, expert: Expert) -> None:
        """Makes an expert have exactly these LoRAs, each at its strength.

        Raises:
            InvalidRequest: one can't be read, or is for another model; then the expert has none.
        """
        wanted = self._wanted(expert)
        present = list(getattr(module, "peft_config", {}))
        try:
            for name in wanted:
                if name not in present:
                    _put_on(module, name, _read(self._files[name.partition("@")[0]], expert))
        except InvalidRequest:
            take_off_all(module)
            raise
        if not wanted:
            take_off_all(module)
            return
        if stale := [name for name in present if name not in wanted]:
            module.delete_adapters(stale)
        module.set_adapters(list(wanted), list(wanted.values()))

    def has_other(self, module: WanTransformer3DModel, expert: Expert) -> bool:
        """Whether an expert has other LoRAs on than these, whatever their strength."""
        return set(self._wanted(expert)) != set(getattr(module, "peft_config", {}))

    def _wanted(self, expert: Expert) -> dict[str, float]:
        """Adapters and their strengths; a file that changed is another adapter."""
        wanted = {}
        for use in self._uses:
            strength = use.strength_on(expert)
            files = self._files[use.name]
            if strength and files.of(expert) is not None:
                wanted[f"{use.name}@{files.identity}"] = strength
        return wanted


def take_off_all(expert: WanTransformer3DModel) -> None:
    """Leaves the expert as it was loaded: the layers it had are its layers again."""
    if getattr(expert, "peft_config", None):
        expert.unload_lora()


def _put_on(expert: WanTransformer3DModel, name: str, weights: dict[str, torch.Tensor]) -> None:
    _check(expert, name.partition("@")[0], weights)
    prefixed = {f"transformer.{key}": value for key, value in weights.items()}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several at once are meant
            warnings.filterwarnings("ignore", "TorchaoLoraLinear was instantiated")  # nothing is merged
            expert.load_lora_adapter(prefixed, prefix="transformer", adapter_name=name)
    except (ValueError, RuntimeError, KeyError) as exc:
        raise _refuse(name.partition("@")[0], f"it can't be applied: {str(exc).partition(chr(10))[0][:200]}") from exc
    _keep_precision(expert, name, weights)
    logger.info("Loaded the LoRA %s", name, extra={"action": "lora_loaded"})


def _keep_precision(expert: WanTransformer3DModel, name: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Gives an adapter its weights once more where the layers are in fp8: peft casts them to their layer's dtype."""
    dtype = expert.patch_embedding.weight.dtype
    for parameter_name, parameter in expert.named_parameters():
        if f".{name}." in parameter_name and parameter.dtype.itemsize < dtype.itemsize:
            value = weights[parameter_name.replace(f".{name}.", ".")]
            parameter.data = value.to(parameter.device, dtype)


def _read(files: LoraFiles, expert: Expert) -> dict[str, torch.Tensor]:
    """The weights, named as diffusers names them, without the expert's own prefix."""
    path = files.of(expert)
    assert path is not None
    try:
        weights = WanPipeline.lora_state_dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, IndexError) as exc:
        reason = f"its file can't be read: {str(exc).partition(chr(10))[0][:200]} ({type(exc).__name__})"
        raise _refuse(files.name, reason) from exc
    stripped = {}
    for key, value in weights.items():
        prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), "")
        stripped[key.removeprefix(prefix)] = value
    return stripped


def _check(expert: WanTransformer3DModel, name: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuses what is for another model, before anything of it is on this one."""
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
            raise _refuse(name, f"it holds {key[:80]!r}, which is no LoRA weight")
        layer = layers.get(match[1])
        if layer is None and any(part in key for part in _OF_WAN21_I2V):
            raise _refuse(name, "it is for Wan2.1 image-to-video, whose image embedding Wan2.2 does not have")
        if layer is None:
            raise _refuse(name, f"the model has no layer {match[1][:80]}")
        axis = 1 if match[2] == "A" else 0
        channels, expected = value.shape[axis : axis + 1], _channels(layer)[axis]
        if value.ndim < 2 or channels[0] != expected:
            raise _refuse(
                name,
                f"its weights for {match[1]} are for {', '.join(map(str, channels)) or 'no'} channels, and this model "
                f"has {expected}: it is for a model of another size",
            )
        found += 1
    if not found:
        raise _refuse(name, "it holds no LoRA weights")


def _channels(layer: torch.nn.Linear | torch.nn.Conv3d) -> tuple[int, int]:
    """What goes out of a layer, and into it: its weights have other shapes where they are quantised."""
    if isinstance(layer, torch.nn.Linear):
        return layer.out_features, layer.in_features
    return layer.out_channels, layer.in_channels


def _refuse(name: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"The LoRA {name} can't be used with this model: {reason}.",
        code="lora_incompatible",
        param="loras",
        suggestions=["Use a LoRA that was made for this very model."],
    )
