"""Loading of a model's components from its files, as a plan wants their weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    GGUFQuantizationConfig,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers import AutoTokenizer, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.device_errors import is_device_failure, is_out_of_memory
from wan22_bridge.errors import ConfigurationError, ModelCorrupted, OutOfMemory
from wan22_bridge.experts import Expert
from wan22_bridge.models.architecture import find_architecture, find_gguf
from wan22_bridge.models.kernels import use_fast_kernels
from wan22_bridge.models.quantizing import quantize
from wan22_bridge.plans import TILE_STRIDE, OptimizationPlan, Quantization
from wan22_bridge.reasons import find_reason
from wan22_bridge.types import ModelType

_MAX_REASON_CHARACTERS = 240
_EXPERT_COUNT = {ModelType.T2V: 2, ModelType.I2V: 2, ModelType.TI2V: 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Message that makes a follower load a model's experts. The follower replies when they are loaded."""

    spec: ModelSpec
    folder: Path
    plan: OptimizationPlan
    exact: bool
    scratch: Path | None


def load_component(name: str, folder: Path, plan: OptimizationPlan, *, exact: bool) -> torch.nn.Module:
    """Loads one component into RAM, in the plan's dtype and quantization.

    Args:
        name: `transformer`, `transformer_2`, `text_encoder` or `vae`.
        folder: The model's folder, in diffusers' format.
        plan: The plan that the model runs under.
        exact: Whether the VAE uses diffusers' own kernels on the CPU.

    Raises:
        ConfigurationError: The plan's attention backend can't be used on this machine.
    """
    if name == "text_encoder":
        dtype = getattr(torch, plan.dtypes["text_encoder"])
        text_encoder: torch.nn.Module = UMT5EncoderModel.from_pretrained(folder / name, dtype=dtype)
        return text_encoder.eval()
    if name == "vae":
        vae = AutoencoderKLWan.from_pretrained(folder / name, torch_dtype=getattr(torch, plan.dtypes["vae"]))
        if plan.device == "cpu" and not exact:
            use_fast_kernels(vae)
        set_tiling(vae, plan.vae_tile)
        return vae.eval()  # type: ignore[no-any-return]
    dtype = getattr(torch, plan.dtypes["experts"])
    if plan.quantization is Quantization.GGUF:
        expert = _load_gguf(folder, name, dtype)
    else:
        expert = WanTransformer3DModel.from_pretrained(folder / name, torch_dtype=dtype)
    quantize(expert.eval(), plan.quantization, dtype)
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
            f"The attention backend {backend!r} can't be used here: {find_reason(exc, limit=300)}.",
            param="generator.attention_backend",
            suggestions=["Use native, or install the packages that the backend needs."],
        ) from exc
    # Diffusers made the backend the default of all other models in the process, too.
    _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)


def set_tiling(vae: AutoencoderKLWan, tile: int | None) -> None:
    """Sets the tiles in which a VAE encodes. Decoding takes its tiles as an argument instead.

    Args:
        vae: The VAE, changed in place.
        tile: Side of a tile in pixels. None: whole frames.
    """
    vae.use_tiling = tile is not None
    if tile is not None:
        stride = int(tile * TILE_STRIDE)
        vae.enable_tiling(tile, tile, stride, stride)


def list_experts(folder: Path) -> list[Expert]:
    """Returns the experts that a model has, by its model_index.json."""
    index = WanPipeline.load_config(folder)
    return [name for name in Expert if (index.get(name) or [None])[0]]


def build_pipelines(
    folder: Path, components: Mapping[str, torch.nn.Module]
) -> tuple[WanPipeline, WanImageToVideoPipeline]:
    """Builds a text-to-video and an image-to-video pipeline that share their components.

    Args:
        folder: The model's folder, from which the tokenizer and the sampler's config are loaded.
        components: Loaded components by name. The pipelines hold None for all others.

    Raises:
        ModelCorrupted: The tokenizer has no vocabulary.
    """
    index = WanPipeline.load_config(folder)
    parts: dict[str, Any] = {name: components.get(name) for name in (*Expert, "text_encoder", "vae")}
    parts["tokenizer"] = _load_tokenizer(folder)
    parts["scheduler"] = UniPCMultistepScheduler.from_pretrained(folder, subfolder="scheduler")
    options = {
        "boundary_ratio": index.get("boundary_ratio"),
        "expand_timesteps": bool(index.get("expand_timesteps")),
    }
    text = WanPipeline(**parts, **options)
    text.set_progress_bar_config(disable=True)
    return text, WanImageToVideoPipeline(**parts, **options)


def _load_tokenizer(folder: Path) -> Any:
    """Loads the tokenizer, after a check for its vocabulary.

    Without a vocabulary transformers raises no error, and the tokenizer encodes every text alike.
    """
    if not any((folder / "tokenizer" / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        raise ModelCorrupted(
            "The model's tokenizer has no vocabulary: tokenizer/ holds neither tokenizer.json nor spiece.model.",
            suggestions=["Download the model again."],
        )
    return AutoTokenizer.from_pretrained(folder / "tokenizer")


@contextmanager
def translating_load_errors(spec: ModelSpec, folder: Path) -> Iterator[None]:
    """Translates the libraries' errors while a model is loaded, and turns off the libraries' progress bars.

    A failure of the device is not translated, because the files may be intact.

    Raises:
        ModelCorrupted: The files can't be loaded.
        OutOfMemory: The model does not fit into the device's memory.
    """
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError, SafetensorError) as exc:
        if is_device_failure(exc):
            raise
        if is_out_of_memory(exc):
            raise OutOfMemory(
                f"The model {spec.id} does not fit into the device's memory.",
                code="vram_insufficient",
                suggestions=["Use a smaller model, or a GPU with more memory."],
            ) from exc
        raise ModelCorrupted(
            f"The files of {spec.id} can't be loaded: {_first_line(exc, folder)}",
            suggestions=["Download the model again.", "Check that the model's folder is in diffusers' format."],
        ) from exc


def check_model_type(spec: ModelSpec, folder: Path) -> None:
    """Checks that a folder holds a model of the right type, because a model of another type generates noise.

    Raises:
        ModelCorrupted: The folder holds a model of another type, or no model.
    """
    found = find_architecture(spec, folder)
    channels, z_dim = found.transformer.get("in_channels"), found.vae.get("z_dim", 0)
    expected = 2 * z_dim + found.vae.get("scale_factor_temporal", 4) if spec.type is ModelType.I2V else z_dim
    if found.experts != _EXPERT_COUNT[spec.type] or channels != expected:
        raise ModelCorrupted(
            f"The folder of {spec.id} holds a model of another type: {found.experts} experts with {channels} input "
            f"channels. Expected for {spec.type}: {_EXPERT_COUNT[spec.type]} experts with {expected} input channels.",
            code="model_type_mismatch",
            suggestions=[f"Use the folder of a {spec.type} model."],
        )


def _first_line(error: Exception, folder: Path) -> str:
    """Returns the first line of a library's message, without paths, because clients read the line."""
    text = str(error).replace(f"{folder}/", "").replace(str(folder), "the folder")
    return f"{find_reason(Exception(text), limit=_MAX_REASON_CHARACTERS)} ({type(error).__name__})"
