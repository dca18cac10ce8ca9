"""Checks whether videos fit the hardware that the generators report."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.jobs.optimization_defaults import explain_defaults, explaining_defaults
from deployments.jobs.replica_registry import ReplicaRegistry
from wan22_bridge.catalogue import ImageInput, ModelSpec
from wan22_bridge.errors import InvalidRequest, OutOfMemory, Wan22Error
from wan22_bridge.experts import Expert
from wan22_bridge.models.lora_files import find_lora
from wan22_bridge.options import QuantizationLevel
from wan22_bridge.planning.limits import limits_of, merge_quantization, shape_of_largest_part
from wan22_bridge.plans import HardwareProfile, PlanConstraints, RequestLimits, RequestShape
from wan22_bridge.types import GenerationParams

if TYPE_CHECKING:
    from wan22_bridge.planning.footprint import FootprintMeter
    from wan22_bridge.planning.planner import Planner

_USABLE_VRAM = 0.97
"""Share of a GPU's memory that is free when nothing runs. The driver takes the rest."""
_USABLE_RAM = 0.9
"""Share of the RAM that is free when nothing runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Whether a video fits the known hardware, and how."""

    fits: bool | None
    """None if no generator has reported its hardware."""
    plan: list[str] = field(default_factory=list)
    """The plan in words; empty for the plain plan, and for no plan."""
    peak_bytes: int | None = None
    """Estimated peak of the GPU's memory, on a CPU of the RAM."""
    reasons: list[str] = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)
    error: Wan22Error | None = None
    """Error of the first machine, if the video fits none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """The results for the present machines."""

    machines: tuple[HardwareProfile, ...]
    smallest: dict[str, Fit] = field(default_factory=dict)
    """How the smallest official size of a model fits a machine, by the model's id."""


class Fitting:
    """Plans videos for the machines of the live generators.

    The planner measures a model's modules with torch, which takes seconds and much memory to import. So torch is
    imported at the first check that needs a plan, in the worker thread that makes it, or before by `prepare`. A service
    on CPUs, which plans only for estimates, can take submissions without torch. Asking a generator instead would wait
    for its running job, and for a start if its replicas are scaled to zero.
    """

    def __init__(
        self, registry: ReplicaRegistry, served: Sequence[ModelSpec], constraints: PlanConstraints, loras: Path
    ) -> None:
        """Takes the registry of generators, the models, the operator's constraints and the folder of LoRAs."""
        self._registry = registry
        self._served = {spec.id: spec for spec in served}
        self._constraints = constraints
        self._loras = loras
        self._meters: dict[tuple[str, str], FootprintMeter] = {}
        self._known = _Known(machines=())
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Imports what measures models in a thread of its own, so that the first submission need not wait for it."""
        threading.Thread(
            name="import of the planner", target=import_module, args=["wan22_bridge.planning.footprint"], daemon=True
        ).start()

    def check(self, params: GenerationParams) -> Fit:
        """Plans a video for each known machine until it fits one.

        Raises:
            InvalidRequest: the model is not served in the quantization that the request asks for.
        """
        spec, machines = self._served[params.model], self._machines()
        with explaining_defaults(params):
            self._check_quantization(spec, limits_of(params), machines)
        fit = self._check(spec, self._shape(params), machines)
        if fit.error is None:
            return fit
        explain_defaults(fit.error, params)
        return replace(fit, reasons=[fit.error.message], suggestions=fit.error.suggestions)

    def admit(self, params: GenerationParams) -> None:
        """Rejects a video that fits none of the known GPUs. If any generator runs on a CPU, every size is admitted.

        Raises:
            InvalidRequest: the video fits no GPU, or its quantization is not served.
        """
        spec, machines = self._served[params.model], self._machines()
        with explaining_defaults(params):
            self._check_quantization(spec, limits_of(params), machines)
            if not _are_gpus(machines):
                return
            error = self._check(spec, self._shape(params), machines).error
            if error is not None:
                raise InvalidRequest(error.message, code=error.code, param=error.param, suggestions=error.suggestions)

    def check_level(self, level: QuantizationLevel) -> None:
        """Rejects a quantization in which no model is served.

        Raises:
            InvalidRequest: the error names the levels of the first model.
        """
        machines, errors = self._machines(), []
        for spec in self._served.values():
            try:
                self._check_quantization(spec, RequestLimits(quantization_level=level), machines)
            except InvalidRequest as exc:
                errors.append(exc)
        if len(errors) == len(self._served):
            raise errors[0]

    def fit_smallest(self, spec: ModelSpec) -> Fit:
        """Plans the smallest official size of a model for the known GPUs. On CPUs `fits` is None, as for no machine."""
        machines = self._machines()
        if not _are_gpus(machines):
            return Fit(fits=None)
        # The free space of the disk differs at each start of a replica. It is left out, so that not each start makes
        # new plans.
        kinds = tuple(dict.fromkeys(replace(machine, disk_free_bytes=0) for machine in machines))
        known = self._known
        if known.machines != kinds:
            known = self._known = _Known(machines=kinds)
        if spec.id not in known.smallest:  # live streams ask every few seconds
            width, height = min(spec.sizes, key=lambda size: size[0] * size[1])
            has_image = spec.image is ImageInput.REQUIRED
            shape = RequestShape(width=width, height=height, num_frames=spec.num_frames, image=has_image)
            known.smallest[spec.id] = self._check(spec, shape, machines)
        return known.smallest[spec.id]

    def _machines(self) -> list[HardwareProfile]:
        """Returns the different machines of the generators as if nothing ran on them.

        Only what a machine can never do is worth a rejection: memory that is taken now may be free when the job starts.
        """
        known = [_idle(info.hardware) for info in self._registry.all() if info.hardware is not None]
        return sorted(set(known), key=lambda machine: machine.vram_total_bytes * machine.gpu_count, reverse=True)

    def _check_quantization(self, spec: ModelSpec, limits: RequestLimits, machines: list[HardwareProfile]) -> None:
        devices = {machine.device for machine in machines}
        device = devices.pop() if len(devices) == 1 else None
        merge_quantization(self._constraints_for(spec), limits, device)

    def _check(self, spec: ModelSpec, shape: RequestShape, machines: list[HardwareProfile]) -> Fit:
        error: Wan22Error | None = None
        for machine in machines:
            try:
                planner = self._planner(spec, machine)
                with self._lock:
                    plan = planner.choose(shape)
                    need = planner.estimate(plan, shape)
            except (OutOfMemory, InvalidRequest) as exc:
                error = error or exc
                continue
            return Fit(
                fits=True,
                plan=plan.describe(),
                peak_bytes=need.vram_bytes or need.ram_bytes,
                reasons=[f"{name.replace('_', ' ')}: {reason}" for name, reason in plan.reasons.items()],
            )
        if error is None:
            return Fit(fits=None, reasons=["No generator has reported its hardware yet."])
        return Fit(fits=False, reasons=[error.message], suggestions=error.suggestions, error=error)

    def _planner(self, spec: ModelSpec, machine: HardwareProfile) -> "Planner":
        # Here and not at the top: see the class's docstring.
        from wan22_bridge.models.architecture import find_architecture
        from wan22_bridge.planning.footprint import FootprintMeter
        from wan22_bridge.planning.planner import Planner, resolve_quantization
        from wan22_bridge.planning.rungs import base_plan

        with self._lock:
            key = spec.id, machine.device
            if key not in self._meters:
                dtypes = base_plan(machine.device).dtypes
                self._meters[key] = FootprintMeter(find_architecture(spec, spec.path), machine.device, dtypes)
            meter = self._meters[key]
        in_gguf = meter.architecture.gguf_bytes is not None
        constraints = resolve_quantization(self._constraints_for(spec), spec, in_gguf=in_gguf)
        return Planner(spec, machine, meter.measure, constraints)

    def _constraints_for(self, spec: ModelSpec) -> PlanConstraints:
        return replace(self._constraints, quantization=spec.quantization or self._constraints.quantization)

    def _shape(self, params: GenerationParams) -> RequestShape:
        """Returns the shape of the part of a video that takes the most memory."""
        files = [find_lora(self._loras, use.name) for use in params.loras]
        sizes = [
            sum(path.stat().st_size for lora in files if (path := lora.of(expert)) is not None) for expert in Expert
        ]
        return shape_of_largest_part(params, lora_bytes=max(sizes))


def _are_gpus(machines: list[HardwareProfile]) -> bool:
    return bool(machines) and all(machine.device == "cuda" for machine in machines)


def _idle(machine: HardwareProfile) -> HardwareProfile:
    return replace(
        machine,
        vram_free_bytes=max(machine.vram_free_bytes, int(machine.vram_total_bytes * _USABLE_VRAM)),
        ram_available_bytes=max(machine.ram_available_bytes, int(machine.ram_total_bytes * _USABLE_RAM)),
    )
