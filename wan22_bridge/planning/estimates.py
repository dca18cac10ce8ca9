"""Estimates of the memory that a plan takes, from the model's footprint. All functions are pure."""

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
"""GPU memory outside tensors: CUDA's context and the workspaces of its libraries."""
FRAGMENTATION = 1.06
"""Factor for the allocator's caches, on the memory of the tensors."""
PROCESS_BYTES = {"cpu": int(0.5 * GIB), "cuda": int(2 * GIB)}
"""RAM of a process that imported torch, diffusers and transformers, with the libraries of its device."""
EXCHANGE = 1.25
"""Factor for a divided pass, on its share of a whole pass: processes copy queries, keys and values to exchange them."""

_RESIDENT, _ON_DEMAND = Residence.RESIDENT, Residence.ON_DEMAND
_STREAMED, _SEQUENTIAL = Residence.STREAMED, Residence.SEQUENTIAL


def estimate_memory(plan: OptimizationPlan, footprint: Footprint) -> MemoryEstimate:
    """Estimates the peak memory of a plan, overall and by stage."""
    expert = footprint.expert[plan.quantization]
    idle = {
        "text_encoder": _idle_bytes(plan.text_encoder, footprint.text_encoder, 1),
        "experts": _idle_bytes(plan.experts, expert, footprint.experts),
        "vae": _idle_bytes(plan.vae, footprint.vae, 1),
    }
    working = {
        "text_encoder": _working_bytes(plan, plan.text_encoder, footprint.text_encoder, 1),
        "experts": _working_bytes(plan, plan.experts, expert, footprint.experts),
        "vae": _working_bytes(plan, plan.vae, footprint.vae, 1),
    }
    activations = {
        "encode_text": ("text_encoder", footprint.encode_text_bytes),
        "encode_image": ("vae", footprint.encode_image_bytes.get(plan.vae_tile, 0)),
        "denoise": ("experts", _run_bytes(plan, footprint)),
        "decode": ("vae", footprint.decode_bytes[plan.vae_tile]),
    }
    stages = {
        stage: sum(idle.values()) - idle[component] + working[component] + int(FRAGMENTATION * needed)
        for stage, (component, needed) in activations.items()
        if stage != "encode_image" or footprint.encode_image_bytes
    }
    ram, disk = _ram_bytes(plan, footprint)
    followers = plan.parallel_degree - 1
    ram += followers * _follower_ram_bytes(plan, footprint)
    disk += followers * disk
    if plan.device == "cpu":
        stages = {stage: needed + ram for stage, needed in stages.items()}
        return MemoryEstimate(vram_bytes=0, stages=stages, ram_bytes=max(stages.values()), disk_bytes=disk)
    stages = {stage: needed + CUDA_CONTEXT_BYTES for stage, needed in stages.items()}
    return MemoryEstimate(vram_bytes=max(stages.values()), stages=stages, ram_bytes=ram, disk_bytes=disk)


def add_run(footprint: Footprint, shape: RequestShape) -> Footprint:
    """Adds a request's step cache and LoRAs to a footprint.

    A step cache keeps copies of the tokens: some once for the whole expert, others for each layer. PAB also takes a
    second pass's activations, because it runs both guidance passes as one batch.
    """
    copies_of_tokens = {
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
        cache_bytes=copies_of_tokens * passes * footprint.tokens * footprint.token_bytes + second_pass,
        lora_bytes=shape.lora_bytes,
    )


def without_size(footprint: Footprint) -> Footprint:
    """Returns the part of a footprint that a video of any size has: the weights, and the activations for the text."""
    return replace(
        footprint,
        encode_image_bytes=dict.fromkeys(footprint.encode_image_bytes, 0),
        denoise_bytes=0,
        embed_bytes=0,
        decode_bytes=dict.fromkeys(footprint.decode_bytes, 0),
        frames_bytes=0,
        tokens=0,
        cache_bytes=0,
    )


def _run_bytes(plan: OptimizationPlan, footprint: Footprint) -> int:
    """Returns the bytes of a pass's activations, of the step cache and of the LoRAs."""
    activations = (2 if plan.batched_guidance else 1) * _denoise_bytes(plan, footprint)
    loras = footprint.lora_bytes * (footprint.experts if plan.experts is _RESIDENT else 1)
    return activations + footprint.cache_bytes // plan.parallel_degree + loras


def _denoise_bytes(plan: OptimizationPlan, footprint: Footprint) -> int:
    """Returns the activations of one forward pass, in one of the processes that share the pass."""
    if plan.parallel_degree == 1:
        return footprint.denoise_bytes
    return footprint.embed_bytes + int(EXCHANGE * footprint.denoise_bytes / plan.parallel_degree)


def _idle_bytes(residence: Residence, component: ComponentBytes, count: int) -> int:
    """Returns the device memory of a component while another component works."""
    return count * component.total if residence is _RESIDENT else 0


def _working_bytes(plan: OptimizationPlan, residence: Residence, component: ComponentBytes, count: int) -> int:
    """Returns the device memory of a component while it works."""
    if residence is _RESIDENT:
        return count * component.total
    if residence is _ON_DEMAND:
        return component.total
    loaded = 2 if plan.device == "cuda" else 1  # a GPU loads the next block while the current block computes
    return component.rest + loaded * component.block if residence is _STREAMED else loaded * component.layer


def _ram_bytes(plan: OptimizationPlan, footprint: Footprint) -> tuple[int, int]:
    """Returns the RAM and the disk space for weights off the device.

    RAM includes the process itself, and the largest component while it is loaded.
    """
    expert = footprint.expert[plan.quantization].total
    components = [
        (plan.experts, footprint.experts * expert),
        (plan.text_encoder, footprint.text_encoder.total),
        (plan.vae, footprint.vae.total),
    ]
    offloaded = sum(size for residence, size in components if residence is not _RESIDENT)
    on_disk = sum(size for residence, size in components if residence in (_STREAMED, _SEQUENTIAL))
    frames = footprint.frames_bytes if plan.vae_tile is not None else 0
    if plan.offload is Offload.DISK:
        return PROCESS_BYTES[plan.device] + max(
            footprint.loaded_expert_bytes, footprint.text_encoder.total, frames
        ), on_disk
    if plan.device == "cpu":
        return PROCESS_BYTES[plan.device] + frames, 0
    others = offloaded - (expert if plan.experts is not _RESIDENT else 0)
    while_loading = max(others + footprint.loaded_expert_bytes, footprint.text_encoder.total)
    return PROCESS_BYTES[plan.device] + max(offloaded + frames, while_loading), 0


def _follower_ram_bytes(plan: OptimizationPlan, footprint: Footprint) -> int:
    """Returns the RAM of a follower, which loads the experts and no other component."""
    expert = footprint.expert[plan.quantization]
    if plan.device == "cpu":
        weights = _working_bytes(plan, plan.experts, expert, footprint.experts)
        return PROCESS_BYTES["cpu"] + weights + _run_bytes(plan, footprint)
    if plan.experts is _RESIDENT or plan.offload is Offload.DISK:
        return PROCESS_BYTES["cuda"] + footprint.loaded_expert_bytes
    loading = (footprint.experts - 1) * expert.total + footprint.loaded_expert_bytes
    return PROCESS_BYTES["cuda"] + max(footprint.experts * expert.total, loading)


def fits(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> bool:
    """Returns whether a machine has the GPU memory, the RAM and the disk space that a plan takes."""
    need = estimate_memory(plan, footprint)
    return (
        need.vram_bytes <= hardware.vram_free_bytes
        and need.ram_bytes <= hardware.ram_available_bytes
        and need.disk_bytes <= hardware.disk_free_bytes
    )
