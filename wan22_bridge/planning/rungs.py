"""Every way to run a model, from everything on the device to weights streamed layer by layer from the disk. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from wan22_bridge.plans import TILES, Footprint, Offload, OptimizationPlan, Quantization, Residence

_R, _O, _S, _Q = Residence.RESIDENT, Residence.ON_DEMAND, Residence.STREAMED, Residence.SEQUENTIAL


def base_plan(device: str, quantization: Quantization = Quantization.NONE) -> OptimizationPlan:
    """Everything on the device, nothing approximated: the first rung."""
    dtypes = {
        "text_encoder": "float32" if device == "cpu" else "bfloat16",
        "experts": "float32" if device == "cpu" else "bfloat16",
        "vae": "float32",
    }
    return OptimizationPlan(device=device, dtypes=dtypes, quantization=quantization)


def list_rungs(
    device: str, footprint: Footprint, quantization: Quantization | None = None
) -> Iterator[OptimizationPlan]:
    """Every way to run a model, the best first: what keeps the bits before what does not, the fast before the slow.

    Args:
        device: `cuda` or `cpu`.
        footprint: the model's.
        quantization: the only one to use; None: none while that fits.
    """
    plain = [quantization] if quantization is not None else [Quantization.NONE]
    all_kinds = [quantization] if quantization is not None else [Quantization.NONE, Quantization.FP8]
    seen = set()
    for kinds, offload, residences in (
        (plain, Offload.RAM, [_R, _O] if device == "cuda" else [_R]),
        (plain, Offload.RAM, [_S] if device == "cuda" else []),
        (all_kinds[-1:], Offload.RAM, [_R, _O, _S, _Q] if device == "cuda" else [_R]),
        (plain, Offload.RAM, [_Q] if device == "cuda" else []),
        (all_kinds, Offload.DISK, [_O, _S, _Q] if device == "cuda" else [_S, _Q]),
    ):
        for kind in kinds:
            streamable = kind is not Quantization.INT8 or offload is Offload.RAM
            for tile in (None, *TILES):
                for residence in residences:
                    if residence in (_S, _Q) and not streamable:
                        continue
                    for plan in _component_choices(base_plan(device, kind), residence, footprint):
                        candidate = replace(plan, offload=offload, vae_tile=tile)
                        if str(candidate) not in seen:
                            seen.add(str(candidate))
                            yield candidate


def _component_choices(plan: OptimizationPlan, experts: Residence, footprint: Footprint) -> Iterator[OptimizationPlan]:
    """Where the other components go beside the experts."""
    if plan.device == "cpu":
        yield replace(plan, experts=experts, text_encoder=experts)
        return
    if experts is _R:
        yield plan
        yield replace(plan, text_encoder=_O, vae=_O)
    if experts is not _R or footprint.experts > 1:
        yield replace(plan, experts=experts, text_encoder=_O, vae=_O)
    yield replace(plan, experts=experts, text_encoder=_S, vae=_O)
