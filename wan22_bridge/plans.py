"""Value types of memory planning: hardware profile, footprint, constraints, plan and estimate.

This module does not import torch, because the settings and the catalogue import this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from wan22_bridge.experts import is_expert
from wan22_bridge.options import QuantizationLevel, StepCache

GIB = 2**30
TILES = (512, 256, 128)
"""Sides in pixels of the square tiles in which a VAE may encode and decode, largest first."""
TILE_STRIDE = 0.75
"""Distance between two tiles, as a share of a tile's side. The overlap is blended."""


class Quantization(StrEnum):
    """Storage format of the experts' weights."""

    NONE = "none"
    """Not quantized: bf16 on a GPU, fp32 on a CPU."""
    FP8 = "fp8"
    """float8_e4m3fn. Each layer's weights are cast to the compute dtype while the layer runs."""
    INT8 = "int8"
    """8-bit integers in linear layers, with a scale for each output channel, by torchao. Closer to the unquantized
    model than fp8 in the same memory. int8 weights can't be streamed from the disk."""
    GGUF = "gguf"
    """The format of the model's own .gguf files, one in each expert's folder. It excludes any other quantization."""


class Residence(StrEnum):
    """Place of a component's weights while the component is idle, and how the weights reach the device."""

    RESIDENT = "resident"
    """Always on the device."""
    ON_DEMAND = "on_demand"
    """Off the device. The whole component is moved there for its work and replaces the previous component."""
    STREAMED = "streamed"
    """Off the device. Blocks are loaded one by one; a GPU loads the next block while the current one computes."""
    SEQUENTIAL = "sequential"
    """Off the device. Layers are loaded one by one: takes the least memory and is the slowest."""


class Offload(StrEnum):
    """Place of weights that are off the device."""

    RAM = "ram"
    DISK = "disk"


@dataclass(frozen=True, kw_only=True, slots=True)
class HardwareProfile:
    """Memory and GPUs of one machine, as seen by the process that generates."""

    device: str
    """`cuda` or `cpu`."""
    name: str
    """Name of the GPU or CPU, for people."""
    vram_total_bytes: int
    """0 on a CPU."""
    vram_free_bytes: int
    compute_capability: tuple[int, int] | None
    ram_total_bytes: int
    ram_available_bytes: int
    disk_free_bytes: int
    gpu_count: int = 1
    """GPUs that the process may use. All are assumed to be like the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestLimits:
    """A request's own constraints on its plan, beside those of the operator."""

    quantization_level: QuantizationLevel = QuantizationLevel.AUTO
    enable_offload: bool | None = None
    """Whether any weights wait off the device. None: only if they must."""
    vae_tile_size: int | None = None
    """Largest side of the VAE's tiles in pixels. None: whole frames are allowed."""
    max_vram_usage_gb: float | None = None
    """Largest use of GPU memory in GiB. None: all that is free."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestShape:
    """Properties of a request that determine its memory use."""

    width: int
    height: int
    num_frames: int
    image: bool = False
    """Whether the request has an input image, which the VAE must encode."""
    guided: bool = True
    """Whether each step makes a second pass, with the negative prompt."""
    step_cache: StepCache = StepCache.NONE
    lora_bytes: int = 0
    """Total size of the LoRA files on one expert."""
    limits: RequestLimits = RequestLimits()
    """The request's own constraints on its plan."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentBytes:
    """Sizes in bytes of a component's weights."""

    total: int
    """The whole component."""
    block: int
    """The largest repeated block."""
    rest: int
    """All weights outside the repeated blocks."""
    layer: int
    """The largest single layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """Memory that a model needs for one request shape, without overheads."""

    experts: int
    """Number of experts."""
    expert: Mapping[Quantization, ComponentBytes]
    """Weights of one expert, by each quantization in which its files can be loaded."""
    loaded_expert_bytes: int
    """Weights of one expert while it is read, before quantization."""
    text_encoder: ComponentBytes
    vae: ComponentBytes
    encode_text_bytes: int
    """Activations of the text encoder."""
    encode_image_bytes: Mapping[int | None, int]
    """Activations of the VAE's encoder by the tile's side in pixels (None: whole frames). Empty without an image."""
    denoise_bytes: int
    """Activations of one forward pass of an expert."""
    embed_bytes: int
    """Activations of an expert before its first block. Each of several GPUs computes them for all tokens."""
    decode_bytes: Mapping[int | None, int]
    """Activations of the VAE's decoder by the tile's side in pixels (None: whole frames)."""
    frames_bytes: int
    """The decoded video, which is assembled in RAM if it is decoded in tiles."""
    tokens: int
    """Tokens of the video's latents in one pass."""
    token_bytes: int
    """One token between two layers."""
    layers: int
    """Number of an expert's transformer blocks."""
    heads: int
    """Number of attention heads, which several GPUs divide among themselves."""
    cache_bytes: int = 0
    """Tensors that the step cache keeps between steps."""
    lora_bytes: int = 0
    """The request's LoRAs on one expert."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanConstraints:
    """Operator constraints on plans."""

    quantization: Quantization | None = None
    """The required quantization. None: unquantized if the weights fit, else fp8."""
    batched_guidance: bool = False
    """See `OptimizationPlan.batched_guidance`."""
    attention_backend: str = "native"
    """See `OptimizationPlan.attention_backend`."""
    compiled: bool = False
    """See `OptimizationPlan.compiled`."""
    parallel_degree: int | None = None
    """The required number of GPUs that denoise a video together. None: as many as the machine and model allow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizationPlan:
    """Decisions about how a model runs on a machine."""

    device: str
    """`cuda` or `cpu`."""
    dtypes: Mapping[str, str]
    """Compute dtypes, by component: `text_encoder`, `experts` and `vae`."""
    quantization: Quantization = Quantization.NONE
    experts: Residence = Residence.RESIDENT
    text_encoder: Residence = Residence.RESIDENT
    vae: Residence = Residence.RESIDENT
    offload: Offload = Offload.RAM
    vae_tile: int | None = None
    """Side of the VAE's tiles in pixels. None: whole frames."""
    batched_guidance: bool = False
    """Whether the passes with the prompt and with the negative prompt run as one batch.

    A batch is faster if a single pass does not fill the device. It doubles the activations and rounds differently.
    """
    attention_backend: str = "native"
    """Name of a diffusers attention backend. Backends other than `native` need special packages or GPUs."""
    compiled: bool = False
    """Whether the experts' blocks are compiled, in the first step of each request shape."""
    parallel_degree: int = 1
    """Number of GPUs (on a CPU: processes) that denoise a video together. Each computes a part of the tokens."""
    reasons: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Reason for each choice in words, by the choice's field; `memory` explains the estimate."""

    def residence_of(self, component: str) -> Residence:
        """Returns the residence of a component.

        Args:
            component: `transformer`, `transformer_2`, `text_encoder` or `vae`.
        """
        if is_expert(component):
            return self.experts
        return self.text_encoder if component == "text_encoder" else self.vae

    @property
    def is_offloaded(self) -> bool:
        """Whether any weights wait off the device."""
        return {self.experts, self.text_encoder, self.vae} != {Residence.RESIDENT}

    def can_become(self, other: "OptimizationPlan") -> bool:
        """Returns whether a model that is loaded under this plan can run under another plan without a reload.

        That holds for other tiles, and for whole components that move between RAM and the device. In a group of
        processes the experts can't move, because each process has its own.
        """
        same = replace(
            other, vae_tile=self.vae_tile, experts=self.experts, text_encoder=self.text_encoder, vae=self.vae
        )
        if same != self:
            return False
        movable = {Residence.RESIDENT, Residence.ON_DEMAND} if self.offload is Offload.RAM else set()
        pairs = [(self.experts, other.experts), (self.text_encoder, other.text_encoder), (self.vae, other.vae)]
        if self.parallel_degree > 1 and self.experts is not other.experts:
            return False
        return all(before is after or {before, after} <= movable for before, after in pairs)

    def describe(self) -> list[str]:
        """Returns a short name for each choice that differs from the plain plan."""
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
        """Returns the plan as JSON-compatible values."""
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
    """Peak memory and disk use of a plan."""

    vram_bytes: int
    """Peak memory on the GPU. 0 on a CPU."""
    stages: Mapping[str, int]
    """Peak memory by stage: of the GPU, or of RAM on a CPU."""
    ram_bytes: int
    """Peak RAM of the generating process and its followers."""
    disk_bytes: int
    """Weights that are written to the disk for streaming."""
