"""Quantization of an expert's weights: the layers that are quantized, and the bytes that their values take."""

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


def quantize(expert: WanTransformer3DModel, quantization: Quantization, dtype: torch.dtype) -> None:
    """Quantizes a whole expert in RAM, in place. Does nothing for `none` and `gguf`.

    Args:
        expert: The unquantized expert.
        quantization: The storage format.
        dtype: The compute dtype.
    """
    if quantization is Quantization.FP8:
        expert.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    elif quantization is Quantization.INT8:
        layers = quantized_layers(expert, quantization)
        quantize_(expert, Int8WeightOnlyConfig(version=2), filter_fn=lambda _, name: name in layers)


def quantized_layers(expert: WanTransformer3DModel, quantization: Quantization) -> set[str]:
    """Returns the names of the layers to quantize: not the embeddings, the norms and the last projection."""
    patterns = [*DEFAULT_SKIP_MODULES_PATTERN, *expert._keep_in_fp32_modules, *expert._skip_layerwise_casting_patterns]
    return {
        name
        for name, module in expert.named_modules()
        if isinstance(module, _KINDS[quantization]) and not any(re.search(pattern, name) for pattern in patterns)
    }


def stays_fp32(expert: WanTransformer3DModel, parameter: str) -> bool:
    """Returns whether diffusers keeps a parameter in fp32 regardless of the requested dtype."""
    return any(name in parameter.split(".") for name in expert._keep_in_fp32_modules)


def bytes_per_value(expert: WanTransformer3DModel, dtype: torch.dtype, quantization: Quantization) -> dict[str, float]:
    """Returns the bytes of one value of each parameter, by the parameter's name.

    Args:
        expert: The unquantized expert; on the meta device, too.
        dtype: The dtype in which the expert is loaded.
        quantization: The quantization after loading.
    """
    layers = quantized_layers(expert, quantization)
    sizes: dict[str, float] = {}
    for name, parameter in expert.named_parameters():
        layer, _, kind = name.rpartition(".")
        sizes[name] = torch.float32.itemsize if stays_fp32(expert, name) else dtype.itemsize
        if layer in layers and quantization is Quantization.FP8:
            sizes[name] = torch.float8_e4m3fn.itemsize
        elif layer in layers and kind == "weight":
            sizes[name] = torch.int8.itemsize + dtype.itemsize / parameter.shape[1]  # the scale of each row
    return sizes
