"""Hardware × model × request → how to run it. Pure: from numbers to a choice with its reasons."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import OutOfMemory
from wan22_bridge.plans import (
    GIB,
    ComponentBytes,
    Footprint,
    HardwareProfile,
    MemoryEstimate,
    Offload,
    OptimizationPlan,
    Quantization,
    RequestShape,
    Residence,
    Wishes,
)
from wan22_bridge.sizing import TEMPORAL_STRIDE, size_for_aspect

CUDA_CONTEXT_BYTES = int(0.75 * GIB)
"""CUDA's context and its libraries' workspaces: memory that is no tensor's."""
FRAGMENTATION = 1.06
"""The allocator's caches over what the tensors take."""
PROCESS_BYTES = {"cpu": int(0.5 * GIB), "cuda": int(2 * GIB)}
"""The RAM of a process that has imported torch, diffusers and transformers, with the libraries of its device."""
_R, _O, _S, _Q = Residence.RESIDENT, Residence.ON_DEMAND, Residence.STREAMED, Residence.SEQUENTIAL
_TILES = (None, 512, 256, 128)

MeasureFootprint = Callable[[RequestShape], Footprint]


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
            for tile in _TILES:
                for residence in residences:
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
        "denoise": ("experts", (2 if plan.batched_guidance else 1) * footprint.denoise_bytes),
        "decode": ("vae", footprint.decode_bytes[plan.vae_tile]),
    }
    stages = {
        stage: sum(waiting.values()) - waiting[component] + working[component] + int(FRAGMENTATION * needed)
        for stage, (component, needed) in activations.items()
        if stage != "encode_image" or footprint.encode_image_bytes
    }
    ram, disk = _ram_bytes(plan, footprint)
    if plan.device == "cpu":
        return MemoryEstimate(vram_bytes=0, vram_stages={}, ram_bytes=ram + max(stages.values()), disk_bytes=disk)
    stages = {stage: needed + CUDA_CONTEXT_BYTES for stage, needed in stages.items()}
    return MemoryEstimate(vram_bytes=max(stages.values()), vram_stages=stages, ram_bytes=ram, disk_bytes=disk)


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


def fits(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> bool:
    """Whether the machine has the memory, and the disk, that a plan takes."""
    need = estimate_memory(plan, footprint)
    return (
        need.vram_bytes <= hardware.vram_free_bytes
        and need.ram_bytes <= hardware.ram_available_bytes
        and need.disk_bytes <= hardware.disk_free_bytes
    )


class Planner:
    """Plans for one model on one machine."""

    def __init__(
        self,
        spec: ModelSpec,
        hardware: HardwareProfile,
        measure: MeasureFootprint,
        wishes: Wishes | None = None,
    ) -> None:
        """Plans with what there is.

        Args:
            spec: the model.
            hardware: the machine, before the model is on it.
            measure: gives the model's footprint for a shape.
            wishes: what every plan is to have.
        """
        self._spec = spec
        self._hardware = hardware
        self._measure = measure
        self._wishes = wishes or Wishes()
        self._fitting: tuple[OptimizationPlan, RequestShape] | None = None
        """The last plan that was chosen, and the shape it was chosen for."""

    def choose(self, shape: RequestShape) -> OptimizationPlan:
        """The best plan that fits.

        Raises:
            OutOfMemory: nothing fits; the suggestions name the first smaller shape that does.
        """
        hardware, footprint = self._hardware, self._measure(shape)
        plan = self._first_fitting(footprint)
        if plan is not None:
            self._fitting = plan, shape
            return explain(plan, footprint, hardware)
        least = min(
            (estimate_memory(rung, footprint) for rung in self._rungs(footprint)),
            key=lambda need: (need.vram_bytes > hardware.vram_free_bytes, need.ram_bytes + need.vram_bytes),
        )
        raise OutOfMemory(
            f"{shape.width}x{shape.height} with {shape.num_frames} frames does not fit: it takes at least "
            f"{_describe_need(least)}, and there are {_describe_free(hardware)}.",
            code="vram_insufficient" if least.vram_bytes > hardware.vram_free_bytes else "ram_insufficient",
            param="resolution",
            suggestions=self._offer_smaller(shape),
        )

    def keep_or_choose(self, plan: OptimizationPlan, shape: RequestShape) -> OptimizationPlan:
        """The plan that a model is loaded with, while the request fits into it; else the best that fits.

        Raises:
            OutOfMemory: nothing fits.
        """
        if self._fitting is not None and self._fitting[0] == plan and _is_within(shape, self._fitting[1]):
            return plan
        return plan if fits(plan, self._measure(shape), self._hardware) else self.choose(shape)

    def next_rung(self, plan: OptimizationPlan, shape: RequestShape) -> OptimizationPlan | None:
        """The next plan after one that ran out of memory: it takes less; None where there is none."""
        footprint = self._measure(shape)
        rungs, key = list(self._rungs(footprint)), "ram_bytes" if plan.device == "cpu" else "vram_bytes"
        before = getattr(estimate_memory(plan, footprint), key)
        for rung in rungs[rungs.index(plan) + 1 if plan in rungs else 0 :]:
            if getattr(estimate_memory(rung, footprint), key) < before and fits(rung, footprint, self._hardware):
                return explain(rung, footprint, self._hardware)
        return None

    def _rungs(self, footprint: Footprint) -> Iterator[OptimizationPlan]:
        wishes = self._wishes
        for rung in list_rungs(self._hardware.device, footprint, wishes.quantization):
            yield replace(
                rung,
                batched_guidance=wishes.batched_guidance,
                attention_backend=wishes.attention_backend,
                compiled=wishes.compiled,
            )

    def _first_fitting(self, footprint: Footprint) -> OptimizationPlan | None:
        return next((rung for rung in self._rungs(footprint) if fits(rung, footprint, self._hardware)), None)

    def _offer_smaller(self, shape: RequestShape) -> list[str]:
        for smaller in list_smaller(self._spec, shape):
            if self._first_fitting(self._measure(smaller)) is not None:
                return [f"{smaller.width}x{smaller.height} with {smaller.num_frames} frames fits."]
        return ["Use a machine with more memory, or a smaller model."]


def _is_within(shape: RequestShape, known: RequestShape) -> bool:
    """Whether a shape takes no more than one that is known."""
    return (
        shape.width * shape.height <= known.width * known.height
        and shape.num_frames <= known.num_frames
        and shape.image <= known.image
    )


def list_smaller(spec: ModelSpec, shape: RequestShape) -> Iterator[RequestShape]:
    """Shapes to offer in place of one that does not fit: fewer pixels first, then also fewer frames."""
    area = shape.width * shape.height
    smallest = shape
    for share in (0.75, 0.55, 0.4, 0.3, 0.2):
        width, height = size_for_aspect(shape.width, shape.height, int(area * share), spec.size_multiple)
        smallest = replace(shape, width=width, height=height)
        yield smallest
    for share in (0.75, 0.5, 0.25):
        yield replace(smallest, num_frames=int((shape.num_frames - 1) * share) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1)


def explain(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> OptimizationPlan:
    """The same plan with a reason in words for each choice."""
    need = estimate_memory(plan, footprint)
    expert = footprint.expert[plan.quantization].total
    budget = hardware.vram_free_bytes if plan.device == "cuda" else hardware.ram_available_bytes
    where = "GPU memory" if plan.device == "cuda" else "RAM"
    everything = footprint.experts * expert + footprint.text_encoder.total + footprint.vae.total
    reasons = {
        "quantization": _why_quantised(plan, footprint, hardware),
        "experts": {
            _R: f"resident: {gb(everything)} of weights in all, {gb(budget)} of {where}",
            _O: f"one at a time, exchanged at the boundary: {footprint.experts} of {gb(expert)} and their "
            "activations do not fit together"
            if footprint.experts > 1
            else f"offloaded while the others work: with it, decoding does not fit into {gb(budget)}",
            _S: "block by block: a whole expert and its activations do not fit",
            _Q: "layer by layer: even two blocks and their activations do not fit",
        }[plan.experts],
        "text_encoder": {
            _R: "resident: there is room for it beside the experts",
            _O: "offloaded: it works for a moment only, and its memory is better used by the others",
            _S: f"block by block: as a whole it takes {gb(footprint.text_encoder.total)}",
            _Q: "layer by layer, as the experts",
        }[plan.text_encoder],
        "vae": "resident" if plan.vae is _R else "offloaded while the experts work",
        "vae_tile": f"whole frames: decoding takes {gb(footprint.decode_bytes[None])}"
        if plan.vae_tile is None
        else f"tiles of {plan.vae_tile} pixels: whole frames take {gb(footprint.decode_bytes[None])} to decode",
        "memory": f"the estimated peak is {_describe_need(need)}; there are {_describe_free(hardware)}",
    }
    if plan.offload is Offload.DISK:
        reasons["offload"] = f"to the disk: in RAM it does not fit into {gb(hardware.ram_available_bytes)}"
    return replace(plan, reasons=reasons)


def _why_quantised(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> str:
    if plan.quantization is Quantization.NONE:
        return "the weights fit as they are"
    plain = estimate_memory(replace(plan, quantization=Quantization.NONE), footprint)
    streamed = replace(plan, quantization=Quantization.NONE, experts=_S, text_encoder=_S)
    ram = estimate_memory(streamed, footprint).ram_bytes
    if plain.vram_bytes > hardware.vram_free_bytes and plan.device == "cuda":
        weight = gb(footprint.expert[Quantization.NONE].total)
        return f"an unquantised expert takes {weight}, and streaming its blocks takes {gb(ram)} of RAM"
    if plain.ram_bytes > hardware.ram_available_bytes:
        return f"unquantised, it takes {gb(plain.ram_bytes)} of RAM"
    return "asked for"


def gb(size: int) -> str:
    """Bytes for people, in GiB."""
    return f"{size / GIB:.1f} GB"


def _describe_need(need: MemoryEstimate) -> str:
    gpu = f"{gb(need.vram_bytes)} of GPU memory and " if need.vram_bytes else ""
    return f"{gpu}{gb(need.ram_bytes)} of RAM"


def _describe_free(hardware: HardwareProfile) -> str:
    gpu = f"{gb(hardware.vram_free_bytes)} of GPU memory and " if hardware.device == "cuda" else ""
    return f"{gpu}{gb(hardware.ram_available_bytes)} of RAM free"
