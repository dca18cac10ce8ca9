"""How much memory a plan takes: from what a model needs and where the plan puts it. Pure."""

from dataclasses import replace

from wan22_bridge.options import StepCache
from wan22_bridge.plans import (
    GIB,
    ComponentBytes,
    Footprint,
    HardwareProfile,
    MemoryEstimate,
    Offload,
    OptimizationPlan,
    RequestShape,
    Residence,
)

CUDA_CONTEXT_BYTES = int(0.75 * GIB)
"""CUDA's context and its libraries' workspaces: memory that is no tensor's."""
FRAGMENTATION = 1.06
"""The allocator's caches over what the tensors take."""
PROCESS_BYTES = {"cpu": int(0.5 * GIB), "cuda": int(2 * GIB)}
"""The RAM of a process that has imported torch, diffusers and transformers, with the libraries of its device."""
EXCHANGE = 1.25
"""What a divided pass takes over its share of the whole one: queries, keys and values are copied to be exchanged."""

_R, _O, _S, _Q = Residence.RESIDENT, Residence.ON_DEMAND, Residence.STREAMED, Residence.SEQUENTIAL


def estimate_memory(plan: OptimizationPlan, footprint: Footprint) -> MemoryEstimate:
    """The most memory that a plan takes, stage by stage."""
    expert = footprint.expert[plan.quantization]
    waiting = {
        "text_encoder": _held(plan.text_encoder, footprint.text_encoder, 1),
        "experts": _held(plan.experts, expert, footprint.experts),
        "vae": _held(plan.vae, footprint.vae, 1),
    }
    working = {
        "text_encoder": _at_work(plan, plan.text_encoder, footprint.text_encoder, 1),
        "experts": _at_work(plan, plan.experts, expert, footprint.experts),
        "vae": _at_work(plan, plan.vae, footprint.vae, 1),
    }
    activations = {
        "encode_text": ("text_encoder", footprint.encode_text_bytes),
        "encode_image": ("vae", footprint.encode_image_bytes.get(plan.vae_tile, 0)),
        "denoise": ("experts", _run_bytes(plan, footprint)),
        "decode": ("vae", footprint.decode_bytes[plan.vae_tile]),
    }
    stages = {
        stage: sum(waiting.values()) - waiting[component] + working[component] + int(FRAGMENTATION * needed)
        for stage, (component, needed) in activations.items()
        if stage != "encode_image" or footprint.encode_image_bytes
    }
    ram, disk = _ram_bytes(plan, footprint)
    others = plan.parallel_degree - 1
    ram += others * _helpers_ram_bytes(plan, footprint)
    disk += others * disk
    if plan.device == "cpu":
        stages = {stage: needed + ram for stage, needed in stages.items()}
        return MemoryEstimate(vram_bytes=0, stages=stages, ram_bytes=max(stages.values()), disk_bytes=disk)
    stages = {stage: needed + CUDA_CONTEXT_BYTES for stage, needed in stages.items()}
    return MemoryEstimate(vram_bytes=max(stages.values()), stages=stages, ram_bytes=ram, disk_bytes=disk)


def add_run(footprint: Footprint, shape: RequestShape) -> Footprint:
    """A footprint with what a run keeps from step to step: what its cache has of a layer or of all, and its LoRAs.

    With PAB, both passes are made at once.
    """
    kept_tokens = {
        StepCache.NONE: 0,
        StepCache.FIRST_BLOCK: 3,
        StepCache.MAGCACHE: 2,
        StepCache.PAB: 2 * footprint.layers,
        StepCache.TAYLORSEER: 2 * 3 * footprint.layers,
    }[shape.step_cache]
    passes = 2 if shape.guided else 1
    second_pass = footprint.denoise_bytes if shape.step_cache is StepCache.PAB and shape.guided else 0
    return replace(
        footprint,
        cache_bytes=kept_tokens * passes * footprint.tokens * footprint.token_bytes + second_pass,
        lora_bytes=shape.lora_bytes,
    )


def _run_bytes(plan: OptimizationPlan, footprint: Footprint) -> int:
    """A pass's activations, and what is kept between passes."""
    activations = (2 if plan.batched_guidance else 1) * _denoise_bytes(plan, footprint)
    loras = footprint.lora_bytes * (footprint.experts if plan.experts is _R else 1)
    return activations + footprint.cache_bytes // plan.parallel_degree + loras


def _denoise_bytes(plan: OptimizationPlan, footprint: Footprint) -> int:
    """Of one forward pass, in one of the processes that share it."""
    if plan.parallel_degree == 1:
        return footprint.denoise_bytes
    return footprint.embed_bytes + int(EXCHANGE * footprint.denoise_bytes / plan.parallel_degree)


def _held(residence: Residence, component: ComponentBytes, count: int) -> int:
    """What a component takes on the device while another one works."""
    return count * component.total if residence is _R else 0


def _at_work(plan: OptimizationPlan, residence: Residence, component: ComponentBytes, count: int) -> int:
    """What it takes there while it works itself."""
    if residence is _R:
        return count * component.total
    if residence is _O:
        return component.total
    ahead = 2 if plan.device == "cuda" else 1
    return component.rest + ahead * component.block if residence is _S else ahead * component.layer


def _ram_bytes(plan: OptimizationPlan, footprint: Footprint) -> tuple[int, int]:
    """RAM and disk beside what lies on the device: what is offloaded, and the largest component while it is loaded."""
    expert = footprint.expert[plan.quantization].total
    off = [
        (plan.experts, footprint.experts * expert),
        (plan.text_encoder, footprint.text_encoder.total),
        (plan.vae, footprint.vae.total),
    ]
    offloaded = sum(size for residence, size in off if residence is not _R)
    laid_out = sum(size for residence, size in off if residence in (_S, _Q))
    frames = footprint.frames_bytes if plan.vae_tile is not None else 0
    if plan.offload is Offload.DISK:
        return PROCESS_BYTES[plan.device] + max(
            footprint.loaded_expert_bytes, footprint.text_encoder.total, frames
        ), laid_out
    if plan.device == "cpu":
        return PROCESS_BYTES[plan.device] + frames, 0
    others = offloaded - (expert if plan.experts is not _R else 0)
    while_loading = max(others + footprint.loaded_expert_bytes, footprint.text_encoder.total)
    return PROCESS_BYTES[plan.device] + max(offloaded + frames, while_loading), 0


def _helpers_ram_bytes(plan: OptimizationPlan, footprint: Footprint) -> int:
    """RAM of a process that helps: it has experts of its own, and nothing else."""
    expert = footprint.expert[plan.quantization]
    if plan.device == "cpu":
        weights = _at_work(plan, plan.experts, expert, footprint.experts)
        return PROCESS_BYTES["cpu"] + weights + _run_bytes(plan, footprint)
    if plan.experts is _R or plan.offload is Offload.DISK:
        return PROCESS_BYTES["cuda"] + footprint.loaded_expert_bytes
    loading = (footprint.experts - 1) * expert.total + footprint.loaded_expert_bytes
    return PROCESS_BYTES["cuda"] + max(footprint.experts * expert.total, loading)


def fits(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> bool:
    """Whether the machine has the memory, and the disk, that a plan takes."""
    need = estimate_memory(plan, footprint)
    return (
        need.vram_bytes <= hardware.vram_free_bytes
        and need.ram_bytes <= hardware.ram_available_bytes
        and need.disk_bytes <= hardware.disk_free_bytes
    )
