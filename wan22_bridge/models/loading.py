"""Files → a model's components, each by itself and as a plan wants its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, GGUFQuantizationConfig, WanTransformer3DModel
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers import AutoTokenizer, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import ConfigurationError, ModelCorrupted, OutOfMemory
from wan22_bridge.models.architecture import find_architecture, find_gguf
from wan22_bridge.models.kernels import use_fast_kernels
from wan22_bridge.models.quantizing import quantise
from wan22_bridge.out_of_memory import is_out_of_memory
from wan22_bridge.plans import OptimizationPlan, Quantization
from wan22_bridge.types import ModelType

_REASON_CHARACTERS = 240
_EXPERT_COUNT = {ModelType.T2V: 2, ModelType.I2V: 2, ModelType.TI2V: 1}


def load_component(name: str, folder: Path, plan: OptimizationPlan, *, exact: bool) -> torch.nn.Module:
    """Loads one component onto the CPU, in the plan's dtype and quantisation.

    Args:
        name: transformer, transformer_2, text_encoder or vae.
        folder: the model's, in diffusers' format.
        plan: how it will run.
        exact: whether the VAE keeps diffusers' own kernels on the CPU.
    """
    if name == "text_encoder":
        dtype = getattr(torch, plan.dtypes["text_encoder"])
        text_encoder: torch.nn.Module = UMT5EncoderModel.from_pretrained(folder / name, dtype=dtype)
        return text_encoder.eval()
    if name == "vae":
        vae = AutoencoderKLWan.from_pretrained(folder / name, torch_dtype=getattr(torch, plan.dtypes["vae"]))
        if plan.device == "cpu" and not exact:
            use_fast_kernels(vae)
        return vae.eval()  # type: ignore[no-any-return]
    dtype = getattr(torch, plan.dtypes["experts"])
    if plan.quantization is Quantization.GGUF:
        expert = _load_gguf(folder, name, dtype)
    else:
        expert = WanTransformer3DModel.from_pretrained(folder / name, torch_dtype=dtype)
    quantise(expert.eval(), plan.quantization, dtype)
    if plan.attention_backend != "native":
        _set_attention(expert, plan.attention_backend)
    if plan.compiled:
        expert.compile_repeated_blocks(fullgraph=False)
    return expert  # type: ignore[no-any-return]


def _load_gguf(folder: Path, name: str, dtype: torch.dtype) -> WanTransformer3DModel:
    file = find_gguf(folder / name)
    if file is None:
        raise FileNotFoundError(f"{name} holds no .gguf file")
    return WanTransformer3DModel.from_single_file(
        str(file),
        quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
        config=str(folder),
        subfolder=name,
        torch_dtype=dtype,
        local_files_only=True,
    )


def _set_attention(expert: WanTransformer3DModel, backend: str) -> None:
    try:
        expert.set_attention_backend(backend)
    except (ValueError, RuntimeError) as exc:
        raise ConfigurationError(
            f"The attention backend {backend!r} can't be used here: {str(exc).partition(chr(10))[0][:300]}",
            param="generator.attention_backend",
            suggestions=["Leave it at native, or install what it needs."],
        ) from exc
    # Diffusers makes it the default of every other model of the process, too.
    _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)


def load_tokenizer(folder: Path) -> Any:
    """Loads the tokenizer.

    Raises:
        ModelCorrupted: it has no vocabulary, and would make the same of every text.
    """
    if not any((folder / "tokenizer" / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        raise ModelCorrupted("The tokenizer has no vocabulary.", suggestions=["Fetch the model again."])
    return AutoTokenizer.from_pretrained(folder / "tokenizer")


@contextmanager
def reading_model(spec: ModelSpec, folder: Path) -> Iterator[None]:
    """Tells what goes wrong while a model is loaded by what it is.

    Raises:
        ModelCorrupted: the files can't be loaded.
        OutOfMemory: they don't fit.
    """
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError, SafetensorError) as exc:
        if is_out_of_memory(exc):
            raise OutOfMemory(
                f"{spec.id} does not fit into the device's memory.",
                code="vram_insufficient",
                suggestions=["Serve a smaller model, or use a GPU with more memory."],
            ) from exc
        raise ModelCorrupted(
            f"The files of {spec.id} can't be loaded: {_first_line(exc, folder)}",
            suggestions=["Fetch the model again.", "Make sure that the folder is in diffusers' format."],
        ) from exc


def check_model_type(spec: ModelSpec, folder: Path) -> None:
    """Refuses a folder of another type before it makes noise out of a user's prompt.

    Raises:
        ModelCorrupted: it is of another type, or no model.
    """
    found = find_architecture(spec, folder)
    channels, z_dim = found.transformer.get("in_channels"), found.vae.get("z_dim", 0)
    expected = 2 * z_dim + found.vae.get("scale_factor_temporal", 4) if spec.type is ModelType.I2V else z_dim
    if found.experts != _EXPERT_COUNT[spec.type] or channels != expected:
        raise ModelCorrupted(
            f"The folder given for {spec.id} holds another model: {found.experts} experts with {channels} input "
            f"channels, where {spec.type} has {_EXPERT_COUNT[spec.type]} with {expected}.",
            code="model_type_mismatch",
            suggestions=[f"Point it to a folder of {spec.type}."],
        )


def _first_line(error: Exception, folder: Path) -> str:
    """What a library said, without where the folder lies: clients read it."""
    line = str(error).replace(f"{folder}/", "").replace(str(folder), "the folder").strip().partition("\n")[0]
    return f"{line[:_REASON_CHARACTERS]} ({type(error).__name__})"
