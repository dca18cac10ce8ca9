"""Files → a pipeline on a device."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import ModelCorrupted, OutOfMemory
from wan22_bridge.kernels import use_fast_kernels
from wan22_bridge.types import ModelType

_REASON_CHARACTERS = 240
_EXPERTS = {ModelType.T2V: 2, ModelType.I2V: 2, ModelType.TI2V: 1}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model's components on a device, seen through both of diffusers' pipelines.

    The components are shared: whoever uses one pipeline uses the other, so one generation at a time.
    """

    spec: ModelSpec
    text: WanPipeline
    image: WanImageToVideoPipeline
    """The same components; it makes the conditioning of an input image."""
    device: torch.device
    weights: str
    """Names the weights and how they are computed with: the part of a snapshot's fingerprint that is the model's."""


def choose_device() -> torch.device:
    """The first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_all_cores() -> None:
    """Gives torch every core that this process may run on.

    Ray sets OMP_NUM_THREADS from an actor's fractional `num_cpus`, which leaves a CPU generation on one core.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))


def load_model(spec: ModelSpec, folder: Path, device: torch.device, *, exact: bool = False) -> LoadedModel:
    """Loads a diffusers folder: fp32 on the CPU; on CUDA bf16, with the VAE in fp32.

    On the CPU the VAE runs faster than diffusers', and rounds differently, unless `exact` asks for the same bits.

    Raises:
        ModelCorrupted: the folder is not a whole model of this type.
        OutOfMemory: it does not fit on the device.
    """
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    dtypes = torch.float32 if device.type == "cpu" else {"default": torch.bfloat16, "vae": torch.float32}
    if not any((folder / "tokenizer" / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        raise ModelCorrupted(f"The tokenizer of {spec.id} has no vocabulary.", suggestions=["Fetch the model again."])
    try:
        pipeline = WanPipeline.from_pretrained(folder, dtype=dtypes, local_files_only=True)
        _check_experts(spec, pipeline)
        pipeline.to(device)
    except torch.OutOfMemoryError as exc:
        raise OutOfMemory(
            f"{spec.id} does not fit into the memory of {device}.",
            code="vram_insufficient",
            suggestions=["Serve a smaller model, or use a GPU with more memory."],
        ) from exc
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as exc:
        raise ModelCorrupted(
            f"The files of {spec.id} can't be loaded: {_first_line(exc, folder)}",
            suggestions=["Fetch the model again.", "Make sure that the folder is in diffusers' format."],
        ) from exc
    if device.type == "cpu" and not exact:
        use_fast_kernels(pipeline.vae)
    pipeline.set_progress_bar_config(disable=True)
    image_pipeline = WanImageToVideoPipeline(
        **pipeline.components,
        boundary_ratio=pipeline.config.boundary_ratio,
        expand_timesteps=pipeline.config.expand_timesteps,
    )
    return LoadedModel(
        spec=spec, text=pipeline, image=image_pipeline, device=device, weights=_name_weights(spec, folder, exact)
    )


def _first_line(error: Exception, folder: Path) -> str:
    """What a library said, without where the folder lies: clients read it."""
    line = str(error).replace(f"{folder}/", "").replace(str(folder), "the folder").strip().partition("\n")[0]
    return f"{line[:_REASON_CHARACTERS]} ({type(error).__name__})"


def _name_weights(spec: ModelSpec, folder: Path, exact: bool) -> str:
    """Cheaply: the files' names and sizes stand for what is in them."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json"))
    listing = [f"{path.relative_to(folder)} {path.stat().st_size}" for path in files]
    digest = hashlib.sha256("\n".join(listing).encode()).hexdigest()[:16]
    return f"{spec.id} {folder.name} {digest}{' exact' if exact else ''}"


def _check_experts(spec: ModelSpec, pipeline: WanPipeline) -> None:
    """Refuses a folder of another type before it makes noise out of a user's prompt."""
    experts = [expert for expert in (pipeline.transformer, pipeline.transformer_2) if expert is not None]
    channels = experts[0].config.in_channels if experts else 0
    z_dim = pipeline.vae.config.z_dim
    expected = 2 * z_dim + pipeline.vae.config.scale_factor_temporal if spec.type is ModelType.I2V else z_dim
    if len(experts) != _EXPERTS[spec.type] or channels != expected:
        raise ModelCorrupted(
            f"The folder given for {spec.id} holds another model: {len(experts)} experts with {channels} input "
            f"channels, where {spec.type} has {_EXPERTS[spec.type]} with {expected}.",
            code="model_type_mismatch",
            suggestions=[f"Point it to a folder of {spec.type}."],
        )
