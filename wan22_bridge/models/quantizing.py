"""An expert's weights stored in fewer bits: which layers, by what, and how many bytes a value then takes."""

import re

import torch
from diffusers import WanTransformer3DModel
from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from wan22_bridge.plans import Quantization

_KINDS: dict[Quantization, tuple[type[torch.nn.Module], ...]] = {
    Quantization.NONE: (),
    Quantization.FP8: (torch.nn.Linear, torch.nn.Conv3d),
    Quantization.INT8: (torch.nn.Linear,),
    Quantization.GGUF: (),
}


def quantise(expert: WanTransformer3DModel, quantization: Quantization, dtype: torch.dtype) -> None:
    """Changes how a whole expert on the CPU keeps its weights, where its files don't decide that already."""
    if quantization is Quantization.FP8:
        expert.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    elif quantization is Quantization.INT8:
        layers = quantised_layers(expert, quantization)
        quantize_(expert, Int8WeightOnlyConfig(version=2), filter_fn=lambda _, name: name in layers)


def quantised_layers(expert: WanTransformer3DModel, quantization: Quantization) -> set[str]:
    """The names of the layers whose weights are stored otherwise: not embeddings, norms and the last projection."""
    patterns = [*DEFAULT_SKIP_MODULES_PATTERN, *expert._keep_in_fp32_modules, *expert._skip_layerwise_casting_patterns]
    return {
        name
        for name, module in expert.named_modules()
        if isinstance(module, _KINDS[quantization]) and not any(re.search(pattern, name) for pattern in patterns)
    }


def stays_fp32(expert: WanTransformer3DModel, parameter: str) -> bool:
    """Whether diffusers keeps a parameter in fp32 whatever dtype is asked for."""
    return any(name in parameter.split(".") for name in expert._keep_in_fp32_modules)


def bytes_per_value(expert: WanTransformer3DModel, dtype: torch.dtype, quantization: Quantization) -> dict[str, float]:
    """What one value of each parameter takes once the expert is loaded in `dtype` and quantised, by its name."""
    layers = quantised_layers(expert, quantization)
    sizes: dict[str, float] = {}
    for name, parameter in expert.named_parameters():
        layer, _, kind = name.rpartition(".")
        sizes[name] = torch.float32.itemsize if stays_fp32(expert, name) else dtype.itemsize
        if layer in layers and quantization is Quantization.FP8:
            sizes[name] = torch.float8_e4m3fn.itemsize
        elif layer in layers and kind == "weight":
            sizes[name] = torch.int8.itemsize + dtype.itemsize / parameter.shape[1]  # each row has a scale
    return sizes
