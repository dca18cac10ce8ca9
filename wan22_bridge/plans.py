"""The values that planning works with: what a machine has, what a model needs, and how it will be run. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from wan22_bridge.options import StepCache

GIB = 2**30
TILES = (512, 256, 128)
"""Sides of a tile in pixels that a VAE may work in, besides whole frames."""
TILE_STRIDE = 0.75
"""Of a tile's side; the rest overlaps, and is blended."""


class Quantization(StrEnum):
    """How the experts' weights are stored."""

    NONE = "none"
    """As they are computed with: bf16 on a GPU, fp32 on a CPU."""
    FP8 = "fp8"
    """Layerwise: each layer's weights are kept in float8_e4m3fn and cast while the layer works."""
    INT8 = "int8"
    """By torchao: linear layers' weights are whole numbers of 8 bits, with a scale for each output channel. Nearer to
    the unquantised model than fp8, for the same memory; they can't be streamed from the disk."""
    GGUF = "gguf"
    """As the model's own files have it: a .gguf file in each expert's folder. Nothing else goes with such a model."""


class Residence(StrEnum):
    """Where a component's weights are while it does not work, and what comes onto the device when it does."""

    RESIDENT = "resident"
    """On the device, always."""
    ON_DEMAND = "on_demand"
    """Off the device; the whole component comes when it is needed, in place of the one before."""
    STREAMED = "streamed"
    """Off the device; it comes block by block, the next one while this one computes."""
    SEQUENTIAL = "sequential"
    """Off the device; it comes layer by layer: the least memory, and the slowest."""


class Offload(StrEnum):
    """Where weights go that are off the device."""

    RAM = "ram"
    DISK = "disk"


@dataclass(frozen=True, kw_only=True, slots=True)
class HardwareProfile:
    """One machine, as seen by a process that generates on one device."""

    device: str
    """`cuda` or `cpu`."""
    name: str
    vram_total_bytes: int
    """0 on a CPU."""
    vram_free_bytes: int
    compute_capability: tuple[int, int] | None
    ram_total_bytes: int
    ram_available_bytes: int
    disk_free_bytes: int
    gpu_count: int = 1
    """GPUs that the process may use; each is taken to be as the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestShape:
    """What of a request decides how much memory it takes."""

    width: int
    height: int
    num_frames: int
    image: bool = False
    """Whether it begins with an image, which has to be encoded."""
    guided: bool = True
    """Whether each step has a second pass, without the prompt."""
    step_cache: StepCache = StepCache.NONE
    lora_bytes: int = 0
    """Of the LoRAs that are on one expert at once, as their files have them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentBytes:
    """What a component's weights take."""

    total: int
    block: int
    """The largest of its repeated blocks."""
    rest: int
    """What is in no repeated block."""
    layer: int
    """The largest single layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What a model needs for one shape of request, in bytes, without overheads."""

    experts: int
    expert: Mapping[Quantization, ComponentBytes]
    """For each way in which the model's files can be loaded."""
    loaded_expert_bytes: int
    """What one expert takes while it is read, before it is quantised."""
    text_encoder: ComponentBytes
    vae: ComponentBytes
    encode_text_bytes: int
    """Activations of the text encoder."""
    encode_image_bytes: Mapping[int | None, int]
    """Of the VAE's encoder, by the tile's side in pixels, None untiled; empty without an image."""
    denoise_bytes: int
    """Of one forward pass of an expert."""
    embed_bytes: int
    """Likewise, of what comes before its first block: each of several GPUs computes that for all tokens."""
    decode_bytes: Mapping[int | None, int]
    """Of the VAE's decoder, likewise."""
    frames_bytes: int
    """The decoded video, kept in RAM where it is decoded in tiles."""
    tokens: int
    token_bytes: int
    """Of one token between two layers."""
    layers: int
    """Of an expert."""
    heads: int
    """Of an expert's attention: they are what several GPUs divide among them there."""
    cache_bytes: int = 0
    """What a run's step cache keeps while it denoises."""
    lora_bytes: int = 0
    """Of a run's LoRAs, on one expert."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What whoever runs the service asks of every plan."""

    quantization: Quantization | None = None
    """The only one to use; None: none while the weights fit without."""
    batched_guidance: bool = False
    attention_backend: str = "native"
    compiled: bool = False
    parallel_degree: int | None = None
    """GPUs that denoise a video together; None: as many as there are and the model can be divided over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizationPlan:
    """How a model is run on a machine."""

    device: str
    dtypes: Mapping[str, str]
    """Of each component's computation: text_encoder, experts, vae."""
    quantization: Quantization = Quantization.NONE
    experts: Residence = Residence.RESIDENT
    text_encoder: Residence = Residence.RESIDENT
    vae: Residence = Residence.RESIDENT
    offload: Offload = Offload.RAM
    vae_tile: int | None = None
    """The side of a tile in pixels; None decodes a frame whole."""
    batched_guidance: bool = False
    """Whether the prompt's and the negative prompt's passes are one: faster where a pass does not fill the device, for
    twice the activations, and rounded differently."""
    attention_backend: str = "native"
    """Of diffusers; the others need packages and GPUs of their own."""
    compiled: bool = False
    """Whether the experts' blocks are compiled, at their first step of each shape."""
    parallel_degree: int = 1
    """How many GPUs denoise a video together, each a part of its tokens; on a CPU, how many processes."""
    reasons: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Why each choice was made, in words."""

    def describe(self) -> list[str]:
        """What is done beyond the plain way, a short name each."""
        names = []
        if self.quantization is not Quantization.NONE:
            names.append(f"{self.quantization.value} weights")
        for component in ("experts", "text_encoder", "vae"):
            residence: Residence = getattr(self, component)
            if residence is not Residence.RESIDENT:
                names.append(f"{component.replace('_', ' ')} {residence.value.replace('_', ' ')}")
        if self.offload is Offload.DISK and names:
            names.append("offload to disk")
        if self.vae_tile is not None:
            names.append(f"vae tiles of {self.vae_tile} px")
        if self.batched_guidance:
            names.append("batched guidance")
        if self.attention_backend != "native":
            names.append(f"{self.attention_backend} attention")
        if self.compiled:
            names.append("compiled")
        if self.parallel_degree > 1:
            names.append(f"context parallel over {self.parallel_degree}")
        return names

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "device": self.device,
            "dtypes": dict(self.dtypes),
            "quantization": self.quantization.value,
            "experts": self.experts.value,
            "text_encoder": self.text_encoder.value,
            "vae": self.vae.value,
            "offload": self.offload.value,
            "vae_tile": self.vae_tile,
            "batched_guidance": self.batched_guidance,
            "attention_backend": self.attention_backend,
            "compiled": self.compiled,
            "parallel_degree": self.parallel_degree,
            "reasons": dict(self.reasons),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """The most that a plan takes."""

    vram_bytes: int
    """On the device; 0 on a CPU."""
    stages: Mapping[str, int]
    """Likewise, for each stage; on a CPU, of RAM."""
    ram_bytes: int
    """Of the generating process, and of those that help it."""
    disk_bytes: int
    """Of weights that are laid out anew on the disk."""
