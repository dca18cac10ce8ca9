"""Choice of a plan: the first rung of the memory ladder that fits the machine, the model and the request."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import ConfigurationError, InvalidRequest, OutOfMemory
from wan22_bridge.options import StepCache
from wan22_bridge.planning.ceilings import Ceilings
from wan22_bridge.planning.estimates import add_run, estimate_memory, fits, without_size
from wan22_bridge.planning.explanations import describe_free, describe_need, explain
from wan22_bridge.planning.limits import allows, limit_hardware, merge_quantization, suggest_without
from wan22_bridge.planning.rungs import list_degrees, list_rungs, list_smaller_decoding
from wan22_bridge.plans import (
    Footprint,
    HardwareProfile,
    MemoryEstimate,
    OptimizationPlan,
    PlanConstraints,
    Quantization,
    RequestLimits,
    RequestShape,
)
from wan22_bridge.sizing import TEMPORAL_STRIDE, size_for_aspect

MeasureFootprint = Callable[[RequestShape], Footprint]


class Planner:
    """Plans for one model on one machine."""

    def __init__(
        self,
        spec: ModelSpec,
        hardware: HardwareProfile,
        measure: MeasureFootprint,
        constraints: PlanConstraints | None = None,
    ) -> None:
        """Creates a planner.

        Args:
            spec: The model.
            hardware: The machine, before the model is loaded.
            measure: Returns the model's footprint for a request shape.
            constraints: Operator constraints that each plan satisfies.
        """
        self._spec = spec
        self._hardware = hardware
        self._measure = measure
        self._constraints = constraints or PlanConstraints()
        self._ceilings = Ceilings()
        self._fitting: tuple[OptimizationPlan, RequestShape] | None = None
        """The last chosen plan, and the request shape that it was chosen for."""
        self._limits = RequestLimits()
        """Limits of the request that the loaded model's plan was chosen for."""

    def refresh(self, hardware: HardwareProfile) -> None:
        """Takes memory into account that has become free.

        Less memory than before is ignored, because the loaded model's plan has its memory already.

        Args:
            hardware: The machine as it would be without the loaded model.
        """
        self._ceilings.remove_if_memory_became_free(hardware)
        self._hardware = replace(
            hardware,
            vram_free_bytes=max(hardware.vram_free_bytes, self._hardware.vram_free_bytes),
            ram_available_bytes=max(hardware.ram_available_bytes, self._hardware.ram_available_bytes),
            disk_free_bytes=max(hardware.disk_free_bytes, self._hardware.disk_free_bytes),
        )

    def choose(self, shape: RequestShape) -> OptimizationPlan:
        """Returns the best plan that fits, with its reasons.

        Raises:
            OutOfMemory: No plan fits. The suggestions name the first smaller request that fits.
            InvalidRequest: The model can't be loaded in the quantization that the request asks for, or not with it
                offloaded.
            ConfigurationError: The model or the machine can't satisfy the constraints.
        """
        plan = self._find(shape)
        self._fitting, self._limits = (plan, shape), shape.limits
        return plan

    def _find(self, shape: RequestShape) -> OptimizationPlan:
        hardware, footprint = limit_hardware(self._hardware, shape.limits), self._footprint(shape)
        plan = self._first_fitting(footprint, shape.limits)
        if plan is not None:
            return explain(plan, footprint, hardware)
        needs = [estimate_memory(rung, footprint) for rung in self._rungs(footprint, shape.limits)]
        if not needs:
            raise InvalidRequest(
                f"enable_offload can't be combined with this quantization on {hardware.name}.",
                code="offload_not_supported",
                param="enable_offload",
                suggestions=["Leave enable_offload out, or use another quantization_level."],
            )
        least = min(
            needs,
            key=lambda need: (need.vram_bytes > hardware.vram_free_bytes, need.ram_bytes + need.vram_bytes),
        )
        raise OutOfMemory(
            f"{shape.width}x{shape.height} with {shape.num_frames} frames does not fit: at least "
            f"{describe_need(least)} are needed, but only {describe_free(hardware)} are free.",
            code="vram_insufficient" if least.vram_bytes > hardware.vram_free_bytes else "ram_insufficient",
            param="resolution",
            suggestions=self._suggest_smaller(shape),
        )

    def keep_or_choose(self, plan: OptimizationPlan, shape: RequestShape) -> OptimizationPlan:
        """Returns the plan under which a loaded model runs a request: its own plan, or the best plan that fits.

        The model's own plan ends if the request does not fit under it, or has other limits. Otherwise a better plan
        replaces it in three cases: the change needs no reload; the better plan stores the weights in another precision,
        because a result must not depend on earlier requests; or the better plan would also have been better for the
        request that the model was loaded for. A plan that is only faster, and only for this smaller request, is not
        worth a reload.

        Raises:
            OutOfMemory: No plan fits.
            InvalidRequest: The model can't be loaded in the quantization that the request asks for.
        """
        if shape.limits != self._limits:
            return self.choose(shape)
        loaded_for = self._fitting[1] if self._fitting is not None and self._fitting[0] == plan else None
        within = loaded_for is not None and _is_within(shape, loaded_for)
        if loaded_for is not None and within and self._is_first(plan, loaded_for):
            return plan
        best = self._find(shape)
        if not within and not self._fits(plan, self._footprint(shape), limit_hardware(self._hardware, shape.limits)):
            return self.choose(shape)
        is_worth_a_change = (
            plan.can_become(best)
            or best.quantization is not plan.quantization
            or (loaded_for is not None and self._find(loaded_for) == best)
        )
        return self.choose(shape) if best != plan and is_worth_a_change else plan

    def estimate(self, plan: OptimizationPlan, shape: RequestShape) -> MemoryEstimate:
        """Returns the memory that a request takes under a plan."""
        return estimate_memory(plan, self._footprint(shape))

    def next_rung(
        self,
        plan: OptimizationPlan,
        shape: RequestShape,
        stages: Collection[str],
        hardware: HardwareProfile | None = None,
    ) -> OptimizationPlan | None:
        """Returns the next plan after a plan that ran out of memory, or None if no plan is left.

        If memory ran out while decoding, plans come first that only decode in smaller tiles or put the experts off,
        because they need no reload. Later requests avoid what ran out, until more memory is free.

        Args:
            plan: The plan that ran out of memory.
            shape: The request.
            stages: Stages of the estimate in which memory ran out. The next plan takes less memory there.
            hardware: The machine when memory ran out, as it would be without the model. None: as it was before.
        """
        footprint, limited = self._footprint(shape), limit_hardware(self._hardware, shape.limits)

        def needs(rung: OptimizationPlan) -> dict[str, int]:
            estimated = estimate_memory(rung, footprint).stages
            return {stage: estimated[stage] for stage in stages if stage in estimated}

        rungs, before = list(self._rungs(footprint, shape.limits)), needs(plan)
        below = rungs[rungs.index(plan) + 1 if plan in rungs else 0 :]
        if set(stages) == {"decode"}:
            below = [*(rung for rung in list_smaller_decoding(plan) if allows(shape.limits, rung)), *below]
        for rung in below:
            if max(needs(rung).values()) < max(before.values()) and fits(rung, footprint, limited):
                self._ceilings.add(before, hardware or self._hardware)
                return explain(rung, footprint, limited)
        return None

    def _rungs(self, footprint: Footprint, limits: RequestLimits) -> Iterator[OptimizationPlan]:
        """Yields the ladder under all constraints; on each rung, as many GPUs as possible first."""
        constraints = merge_quantization(self._constraints, limits, self._hardware.device)
        degrees = list_degrees(footprint.heads, self._hardware, constraints.parallel_degree)
        for rung in list_rungs(self._hardware.device, constraints.quantization):
            if not allows(limits, rung):
                continue
            for degree in degrees:
                yield replace(
                    rung,
                    batched_guidance=constraints.batched_guidance,
                    attention_backend=constraints.attention_backend,
                    compiled=constraints.compiled,
                    parallel_degree=degree,
                )

    def _first_fitting(self, footprint: Footprint, limits: RequestLimits) -> OptimizationPlan | None:
        hardware = limit_hardware(self._hardware, limits)
        fitting = [rung for rung in self._rungs(footprint, limits) if fits(rung, footprint, hardware)]
        # Where no plan avoids what ran out, the attempt is repeated, because the memory may be free by now.
        return next((rung for rung in fitting if self._fits(rung, footprint, hardware)), next(iter(fitting), None))

    def _fits(self, plan: OptimizationPlan, footprint: Footprint, hardware: HardwareProfile) -> bool:
        return fits(plan, footprint, hardware) and self._ceilings.allow(estimate_memory(plan, footprint))

    def _is_first(self, plan: OptimizationPlan, shape: RequestShape) -> bool:
        """Returns whether no plan can be better."""
        return plan == next(self._rungs(self._footprint(shape), shape.limits), None)

    def _footprint(self, shape: RequestShape) -> Footprint:
        """Measures a plain request of the same size, and adds the step cache and the LoRAs.

        Requests of one size share the measurement, which is cached and slow to make.
        """
        plain = replace(shape, guided=True, step_cache=StepCache.NONE, lora_bytes=0, limits=RequestLimits())
        return add_run(self._measure(plain), shape)

    def _fits_somehow(self, shape: RequestShape) -> bool:
        return self._first_fitting(self._footprint(shape), shape.limits) is not None

    def _weights_fit(self, shape: RequestShape) -> bool:
        """Returns whether there is memory for the weights alone, without which no smaller request can fit.

        Measuring smaller requests takes seconds.
        """
        return self._first_fitting(without_size(self._footprint(shape)), shape.limits) is not None

    def _suggest_smaller(self, shape: RequestShape) -> list[str]:
        without_cache = replace(shape, step_cache=StepCache.NONE)
        if shape != without_cache and self._fits_somehow(without_cache):
            return [
                f"Omit the step cache {shape.step_cache}, or use first_block or magcache, which take the least memory."
            ]
        for smaller in list_smaller(self._spec, shape) if self._weights_fit(shape) else ():
            if self._fits_somehow(smaller):
                fitting = f"{smaller.width}x{smaller.height} with {smaller.num_frames} frames fits."
                return [fitting, *suggest_without(shape.limits)]
        return suggest_without(shape.limits) or ["Use a machine with more memory, or a smaller model."]


def resolve_quantization(constraints: PlanConstraints, spec: ModelSpec, *, in_gguf: bool) -> PlanConstraints:
    """Returns the constraints with the quantization that the format of a model's files dictates.

    Args:
        constraints: Operator constraints.
        spec: The model.
        in_gguf: Whether the model's experts are .gguf files.

    Raises:
        ConfigurationError: The files can't have the required quantization.
    """
    if in_gguf and constraints.quantization in (None, Quantization.GGUF):
        return replace(constraints, quantization=Quantization.GGUF)
    if in_gguf:
        raise ConfigurationError(
            f"The experts of {spec.id} are .gguf files, which can't be quantized to {constraints.quantization}.",
            param="generator.quantization",
            suggestions=["Omit generator.quantization.", "Remove the .gguf files from the model's folder."],
        )
    if constraints.quantization is Quantization.GGUF:
        raise ConfigurationError(
            f"The quantization gguf is configured, but the experts of {spec.id} are not .gguf files.",
            param="generator.quantization",
            suggestions=[
                "Omit generator.quantization.",
                "Put the high-noise .gguf file into transformer/ and the low-noise .gguf file into transformer_2/.",
            ],
        )
    return constraints


def list_smaller(spec: ModelSpec, shape: RequestShape) -> Iterator[RequestShape]:
    """Yields smaller requests to suggest: first with fewer pixels, then also with fewer frames."""
    area = shape.width * shape.height
    smallest = shape
    for share in (0.75, 0.55, 0.4, 0.3, 0.2):
        width, height = size_for_aspect(shape.width, shape.height, int(area * share), spec.size_multiple)
        smallest = replace(shape, width=width, height=height)
        yield smallest
    for share in (0.75, 0.5, 0.25):
        yield replace(smallest, num_frames=int((shape.num_frames - 1) * share) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1)


def _is_within(shape: RequestShape, known: RequestShape) -> bool:
    """Returns whether a request takes at most as much memory as a known request."""
    return (
        shape.width * shape.height <= known.width * known.height
        and shape.num_frames <= known.num_frames
        and shape.image <= known.image
        and shape.guided <= known.guided
        and shape.step_cache in (StepCache.NONE, known.step_cache)
        and shape.lora_bytes <= known.lora_bytes
        and shape.limits == known.limits
    )
