"""Hardware × model × request → how to run it. Pure: from numbers to a choice with its reasons."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import ConfigurationError, OutOfMemory
from wan22_bridge.options import StepCache
from wan22_bridge.planning.estimates import add_run, estimate_memory, fits
from wan22_bridge.planning.rungs import list_rungs
from wan22_bridge.plans import (
    GIB,
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

MeasureFootprint = Callable[[RequestShape], Footprint]

_R, _O, _S, _Q = Residence.RESIDENT, Residence.ON_DEMAND, Residence.STREAMED, Residence.SEQUENTIAL


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
            ConfigurationError: the wishes can't be met.
        """
        hardware, footprint = self._hardware, self._footprint(shape)
        plan = self._first_fitting(footprint)
        if plan is not None:
            self._fitting = plan, shape
            return _explain(plan, footprint, hardware)
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
        return plan if fits(plan, self._footprint(shape), self._hardware) else self.choose(shape)

    def next_rung(
        self, plan: OptimizationPlan, shape: RequestShape, stages: Collection[str]
    ) -> OptimizationPlan | None:
        """The next plan after one that ran out of memory; None where there is none.

        Args:
            plan: what ran out.
            shape: the request.
            stages: where it did, as the estimate calls them: the next plan takes less there.
        """
        footprint = self._footprint(shape)

        def need(rung: OptimizationPlan) -> int:
            estimated = estimate_memory(rung, footprint).stages
            return max(estimated.get(stage, 0) for stage in stages)

        rungs, before = list(self._rungs(footprint)), need(plan)
        for rung in rungs[rungs.index(plan) + 1 if plan in rungs else 0 :]:
            if need(rung) < before and fits(rung, footprint, self._hardware):
                return _explain(rung, footprint, self._hardware)
        return None

    def _rungs(self, footprint: Footprint) -> Iterator[OptimizationPlan]:
        wishes = self._wishes
        degrees = list_degrees(footprint.heads, self._hardware, wishes.parallel_degree)
        for rung in list_rungs(self._hardware.device, footprint, wishes.quantization):
            for degree in degrees:
                yield replace(
                    rung,
                    batched_guidance=wishes.batched_guidance,
                    attention_backend=wishes.attention_backend,
                    compiled=wishes.compiled,
                    parallel_degree=degree,
                )

    def _first_fitting(self, footprint: Footprint) -> OptimizationPlan | None:
        return next((rung for rung in self._rungs(footprint) if fits(rung, footprint, self._hardware)), None)

    def _footprint(self, shape: RequestShape) -> Footprint:
        bare = replace(shape, guided=True, step_cache=StepCache.NONE, lora_bytes=0)
        return add_run(self._measure(bare), shape)

    def _offer_smaller(self, shape: RequestShape) -> list[str]:
        without_cache = replace(shape, step_cache=StepCache.NONE)
        if shape != without_cache and self._first_fitting(self._footprint(without_cache)) is not None:
            return [f"Without the step cache {shape.step_cache} it fits; first_block and magcache take the least."]
        for smaller in list_smaller(self._spec, shape):
            if self._first_fitting(self._footprint(smaller)) is not None:
                return [f"{smaller.width}x{smaller.height} with {smaller.num_frames} frames fits."]
        return ["Use a machine with more memory, or a smaller model."]


def settle_wishes(wishes: Wishes, spec: ModelSpec, *, in_gguf: bool) -> Wishes:
    """The wishes for a model whose files decide about its quantisation, if they do.

    Raises:
        ConfigurationError: something else is wished for.
    """
    if in_gguf and wishes.quantization in (None, Quantization.GGUF):
        return replace(wishes, quantization=Quantization.GGUF)
    if in_gguf or wishes.quantization is Quantization.GGUF:
        raise ConfigurationError(
            f"The experts of {spec.id} are in .gguf files, which can't be quantised to {wishes.quantization}."
            if in_gguf
            else f"The experts of {spec.id} are not in .gguf files.",
            param="generator.quantization",
            suggestions=[
                "Leave generator.quantization out.",
                "Take the .gguf files out of the model's folder."
                if in_gguf
                else "Put the high-noise .gguf file into transformer/ and the low-noise one into transformer_2/.",
            ],
        )
    return wishes


def _is_within(shape: RequestShape, known: RequestShape) -> bool:
    """Whether a shape takes no more than one that is known."""
    return (
        shape.width * shape.height <= known.width * known.height
        and shape.num_frames <= known.num_frames
        and shape.image <= known.image
        and shape.guided <= known.guided
        and shape.step_cache in (StepCache.NONE, known.step_cache)
        and shape.lora_bytes <= known.lora_bytes
    )


def list_degrees(heads: int, hardware: HardwareProfile, wish: int | None) -> list[int]:
    """Over how many GPUs a model can be divided here, the most first; a wish is the only one.

    Raises:
        ConfigurationError: what is wished for can't be.
    """
    possible = [degree for degree in range(heads, 0, -1) if heads % degree == 0]
    if hardware.device == "cuda":
        possible = [degree for degree in possible if degree <= hardware.gpu_count]
    if wish is None:
        return possible if hardware.device == "cuda" else [1]
    if wish not in possible:
        there = f" there are {hardware.gpu_count} GPUs here, and" if hardware.device == "cuda" else ""
        raise ConfigurationError(
            f"A video can't be denoised by {wish} GPUs:{there} the number has to divide the {heads} heads of the "
            "model's attention.",
            param="generator.parallel_degree",
            suggestions=[f"Use one of {', '.join(map(str, reversed(possible)))}.", "Or leave it out."],
        )
    return [wish]


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


def _explain(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> OptimizationPlan:
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
    if max(hardware.gpu_count, plan.parallel_degree) > 1:
        reasons["parallel_degree"] = _why_parallel(plan, footprint, hardware)
    if plan.offload is Offload.DISK:
        reasons["offload"] = f"to the disk: in RAM it does not fit into {gb(hardware.ram_available_bytes)}"
    return replace(plan, reasons=reasons)


def _why_quantised(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> str:
    if plan.quantization is Quantization.NONE:
        return "the weights fit as they are"
    if plan.quantization is Quantization.GGUF:
        return "the model's files have it"
    plain = estimate_memory(replace(plan, quantization=Quantization.NONE), footprint)
    streamed = replace(plan, quantization=Quantization.NONE, experts=_S, text_encoder=_S)
    ram = estimate_memory(streamed, footprint).ram_bytes
    if plain.vram_bytes > hardware.vram_free_bytes and plan.device == "cuda":
        weight = gb(footprint.expert[Quantization.NONE].total)
        return f"an unquantised expert takes {weight}, and streaming its blocks takes {gb(ram)} of RAM"
    if plain.ram_bytes > hardware.ram_available_bytes:
        return f"unquantised, it takes {gb(plain.ram_bytes)} of RAM"
    return "asked for"


def _why_parallel(plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> str:
    degree = plan.parallel_degree
    of_how_many = f"{degree} of {hardware.gpu_count} GPUs" if plan.device == "cuda" else f"{degree} processes"
    if degree > 1:
        each = f"{footprint.tokens // degree} of {footprint.tokens} tokens and {footprint.heads // degree} heads"
        how = f"{of_how_many} share each pass, {each} each"
    else:
        how = f"{of_how_many} denoises alone"
    if larger := [each for each in list_degrees(footprint.heads, hardware, None) if each > degree]:
        more = replace(plan, parallel_degree=larger[-1])
        if fits(more, footprint, hardware):
            return f"{how}, as asked for"
        return f"{how}; {larger[-1]} would take {_describe_need(estimate_memory(more, footprint))}"
    if degree < hardware.gpu_count and plan.device == "cuda":
        return f"{how}; the number has to divide the {footprint.heads} heads of attention"
    return how


def gb(size: int) -> str:
    """Bytes for people, in GiB."""
    return f"{size / GIB:.1f} GB"


def _describe_need(need: MemoryEstimate) -> str:
    gpu = f"{gb(need.vram_bytes)} of GPU memory and " if need.vram_bytes else ""
    return f"{gpu}{gb(need.ram_bytes)} of RAM"


def _describe_free(hardware: HardwareProfile) -> str:
    gpu = f"{gb(hardware.vram_free_bytes)} of GPU memory and " if hardware.device == "cuda" else ""
    return f"{gpu}{gb(hardware.ram_available_bytes)} of RAM free"
