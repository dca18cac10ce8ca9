"""The memory ladder: every way to run a model, from all weights on the device to layers streamed from the disk."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from wan22_bridge.errors import ConfigurationError
from wan22_bridge.plans import TILES, HardwareProfile, Offload, OptimizationPlan, Quantization, Residence

_RESIDENT, _ON_DEMAND = Residence.RESIDENT, Residence.ON_DEMAND
_STREAMED, _SEQUENTIAL = Residence.STREAMED, Residence.SEQUENTIAL


class _Section(NamedTuple):
    """A section of the ladder: one storage of the weights, with the experts' residences from fast to slow."""

    quantization: Quantization
    offload: Offload
    experts: tuple[Residence, ...]


_GPU_SECTIONS = (
    _Section(Quantization.NONE, Offload.RAM, (_RESIDENT, _ON_DEMAND)),
    _Section(Quantization.NONE, Offload.RAM, (_STREAMED,)),
    _Section(Quantization.FP8, Offload.RAM, (_RESIDENT, _ON_DEMAND, _STREAMED, _SEQUENTIAL)),
    _Section(Quantization.NONE, Offload.RAM, (_SEQUENTIAL,)),
    _Section(Quantization.NONE, Offload.DISK, (_ON_DEMAND, _STREAMED, _SEQUENTIAL)),
    _Section(Quantization.FP8, Offload.DISK, (_ON_DEMAND, _STREAMED, _SEQUENTIAL)),
)
"""Sections for a GPU, in the order in which the planner tries them.

RAM comes before the disk. Unquantized weights come before fp8, because they keep the result bit-exact. The exception
is layer-by-layer loading of unquantized weights: fp8 is tried first, because such loading is slow.
"""
_CPU_SECTIONS = (
    _Section(Quantization.NONE, Offload.RAM, (_RESIDENT,)),
    _Section(Quantization.FP8, Offload.RAM, (_RESIDENT,)),
    _Section(Quantization.NONE, Offload.DISK, (_STREAMED, _SEQUENTIAL)),
    _Section(Quantization.FP8, Offload.DISK, (_STREAMED, _SEQUENTIAL)),
)
"""Sections for a CPU. Its RAM is the device, so that weights can be offloaded only to the disk."""


def base_plan(device: str, quantization: Quantization = Quantization.NONE) -> OptimizationPlan:
    """Returns the first rung: all weights on the device, whole frames in the VAE."""
    dtypes = {
        "text_encoder": "float32" if device == "cpu" else "bfloat16",
        "experts": "float32" if device == "cpu" else "bfloat16",
        "vae": "float32",
    }
    return OptimizationPlan(device=device, dtypes=dtypes, quantization=quantization)


def list_rungs(device: str, quantization: Quantization | None = None) -> Iterator[OptimizationPlan]:
    """Yields every way to run a model, best first.

    Within a section of the ladder, whole frames come before tiles, and fast residences before slow ones.

    Args:
        device: `cuda` or `cpu`.
        quantization: The required quantization. None: unquantized and fp8.
    """
    for section in _list_sections(device, quantization):
        base = replace(base_plan(device, section.quantization), offload=section.offload)
        for tile in (None, *TILES):
            for experts in section.experts:
                for text_encoder, vae in _list_residences_beside(experts, device):
                    yield replace(base, vae_tile=tile, experts=experts, text_encoder=text_encoder, vae=vae)


def list_smaller_decoding(plan: OptimizationPlan) -> Iterator[OptimizationPlan]:
    """Yields plans that take less memory for decoding and need no reload, best first.

    They decode in smaller tiles, or put the experts off before decoding, or both.
    """
    smaller = [tile for tile in TILES if plan.vae_tile is None or tile < plan.vae_tile]
    for tile in smaller:
        yield replace(plan, vae_tile=tile)
    without_experts = replace(plan, experts=_ON_DEMAND)
    if plan.experts is _RESIDENT and plan.device == "cuda" and plan.can_become(without_experts):
        yield without_experts
        for tile in smaller:
            yield replace(without_experts, vae_tile=tile)


def _list_sections(device: str, required: Quantization | None) -> Iterator[_Section]:
    """Yields the sections to try. A required quantization takes the place of the unquantized weights."""
    for section in _GPU_SECTIONS if device == "cuda" else _CPU_SECTIONS:
        if required is None:
            yield section
        elif section.quantization is Quantization.NONE:
            yield section._replace(quantization=required, experts=_list_possible(required, section))


def _list_possible(quantization: Quantization, section: _Section) -> tuple[Residence, ...]:
    """Returns a section's residences without those that the quantization rules out."""
    if quantization is Quantization.INT8 and section.offload is Offload.DISK:
        return tuple(residence for residence in section.experts if residence is _ON_DEMAND)
    return section.experts


def _list_residences_beside(experts: Residence, device: str) -> Iterator[tuple[Residence, Residence]]:
    """Yields the residences of the text encoder and of the VAE that go with a residence of the experts."""
    if device == "cpu":
        yield experts, _RESIDENT
        return
    if experts is _RESIDENT:
        yield _RESIDENT, _RESIDENT
    yield _ON_DEMAND, _ON_DEMAND
    yield _STREAMED, _ON_DEMAND


def list_degrees(heads: int, hardware: HardwareProfile, required: int | None) -> list[int]:
    """Returns the numbers of GPUs that a model can be divided over on a machine, largest first.

    Args:
        heads: Number of the model's attention heads.
        hardware: The machine.
        required: The required number, which is then the only one. None: all possible numbers.

    Raises:
        ConfigurationError: The required number is not possible.
    """
    possible = [degree for degree in range(heads, 0, -1) if heads % degree == 0]
    if hardware.device == "cuda":
        possible = [degree for degree in possible if degree <= hardware.gpu_count]
    if required is None:
        return possible if hardware.device == "cuda" else [1]
    if required not in possible:
        limit = f", and at most the {hardware.gpu_count} GPUs of this machine" if hardware.device == "cuda" else ""
        raise ConfigurationError(
            f"parallel_degree {required} is not possible. Expected a divisor of the model's {heads} attention heads"
            f"{limit}.",
            param="generator.parallel_degree",
            suggestions=[
                f"Use one of {', '.join(map(str, reversed(possible)))}.",
                "Omit generator.parallel_degree.",
            ],
        )
    return [required]
