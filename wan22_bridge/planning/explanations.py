"""Reasons for a plan's choices, in words for people."""

from dataclasses import replace

from wan22_bridge.planning.estimates import estimate_memory, fits
from wan22_bridge.planning.rungs import list_degrees
from wan22_bridge.plans import (
    GIB,
    Footprint,
    HardwareProfile,
    MemoryEstimate,
    Offload,
    OptimizationPlan,
    Quantization,
    Residence,
)


def explain(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> OptimizationPlan:
    """Returns the same plan with a reason in words for each choice."""
    need = estimate_memory(plan, footprint)
    reasons = {
        "quantization": _explain_quantization(plan, footprint, hardware),
        "experts": _explain_experts(plan, footprint, hardware),
        "text_encoder": _explain_text_encoder(plan, footprint),
        "vae": "resident" if plan.vae is Residence.RESIDENT else "offloaded while the experts work",
        "vae_tile": _explain_tile(plan, footprint),
        "memory": f"the estimated peak is {describe_need(need)}; {describe_free(hardware)} are free",
    }
    if max(hardware.gpu_count, plan.parallel_degree) > 1:
        reasons["parallel_degree"] = _explain_degree(plan, footprint, hardware)
    if plan.offload is Offload.DISK:
        reasons["offload"] = f"to the disk: offloaded weights do not fit into {gb(hardware.ram_available_bytes)} of RAM"
    return replace(plan, reasons=reasons)


def _explain_quantization(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> str:
    if plan.quantization is Quantization.NONE:
        return "the unquantized weights fit"
    if plan.quantization is Quantization.GGUF:
        return "the model's files are in the GGUF format"
    plain = estimate_memory(replace(plan, quantization=Quantization.NONE), footprint)
    if plain.vram_bytes > hardware.vram_free_bytes and plan.device == "cuda":
        weight = gb(footprint.expert[Quantization.NONE].total)
        streamed = replace(
            plan, quantization=Quantization.NONE, experts=Residence.STREAMED, text_encoder=Residence.STREAMED
        )
        ram = gb(estimate_memory(streamed, footprint).ram_bytes)
        return f"an unquantized expert takes {weight}; streaming its blocks takes {ram} of RAM"
    if plain.ram_bytes > hardware.ram_available_bytes:
        return f"unquantized weights take {gb(plain.ram_bytes)} of RAM"
    return "as configured"


def _explain_experts(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> str:
    expert = footprint.expert[plan.quantization].total
    on_gpu = plan.device == "cuda"
    free = gb(hardware.vram_free_bytes if on_gpu else hardware.ram_available_bytes)
    match plan.experts:
        case Residence.RESIDENT:
            weights = footprint.experts * expert + footprint.text_encoder.total + footprint.vae.total
            return f"resident: all weights take {gb(weights)} of {free} of {'GPU memory' if on_gpu else 'RAM'}"
        case Residence.ON_DEMAND if footprint.experts > 1:
            return (
                f"one at a time, exchanged at the boundary: {footprint.experts} experts of {gb(expert)} each do not "
                "fit together with their activations"
            )
        case Residence.ON_DEMAND:
            return f"offloaded while other components work: decoding beside the expert does not fit into {free}"
        case Residence.STREAMED:
            return "block by block: a whole expert does not fit together with its activations"
        case Residence.SEQUENTIAL:
            return "layer by layer: even two blocks do not fit together with their activations"


def _explain_text_encoder(plan: OptimizationPlan, footprint: Footprint) -> str:
    match plan.text_encoder:
        case Residence.RESIDENT:
            return "resident: fits beside the experts"
        case Residence.ON_DEMAND:
            return "offloaded: works only briefly, and other components need its memory"
        case Residence.STREAMED:
            return f"block by block: the whole text encoder takes {gb(footprint.text_encoder.total)}"
        case Residence.SEQUENTIAL:
            return "layer by layer, like the experts"


def _explain_tile(plan: OptimizationPlan, footprint: Footprint) -> str:
    whole = gb(footprint.decode_bytes[None])
    if plan.vae_tile is None:
        return f"whole frames: decoding takes {whole}"
    return f"tiles of {plan.vae_tile} pixels: decoding whole frames takes {whole}"


def _explain_degree(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> str:
    degree = plan.parallel_degree
    share = f"{degree} of {hardware.gpu_count} GPUs" if plan.device == "cuda" else f"{degree} processes"
    if degree > 1:
        each = f"{footprint.tokens // degree} of {footprint.tokens} tokens and {footprint.heads // degree} heads"
        reason = f"{share} share each pass, {each} each"
    else:
        reason = f"{share} denoises alone"
    if larger := [possible for possible in list_degrees(footprint.heads, hardware, None) if possible > degree]:
        more = replace(plan, parallel_degree=larger[-1])
        if fits(more, footprint, hardware):
            return f"{reason}, as configured"
        return f"{reason}; {larger[-1]} would take {describe_need(estimate_memory(more, footprint))}"
    if degree < hardware.gpu_count and plan.device == "cuda":
        return f"{reason}; the number must be a divisor of the {footprint.heads} attention heads"
    return reason


def gb(size: int) -> str:
    """Formats a number of bytes as GiB, for people."""
    return f"{size / GIB:.1f} GB"


def describe_need(need: MemoryEstimate) -> str:
    """Returns the memory that an estimate needs, in words."""
    gpu = f"{gb(need.vram_bytes)} of GPU memory and " if need.vram_bytes else ""
    return f"{gpu}{gb(need.ram_bytes)} of RAM"


def describe_free(hardware: HardwareProfile) -> str:
    """Returns a machine's free memory, in words."""
    gpu = f"{gb(hardware.vram_free_bytes)} of GPU memory and " if hardware.device == "cuda" else ""
    return f"{gpu}{gb(hardware.ram_available_bytes)} of RAM"
