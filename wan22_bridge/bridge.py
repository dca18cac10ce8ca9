"""ModelIntegrationBridge: the library's interface to load models and to generate videos."""

import logging
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from weakref import WeakSet

from wan22_bridge.catalogue import ImageInput, ModelSpec
from wan22_bridge.models.architecture import find_architecture
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.pipeline.generation import SharedResources, generate
from wan22_bridge.pipeline.progress import DecodeTimes
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.footprint import FootprintMeter
from wan22_bridge.planning.hardware import add_own_memory, detect_hardware, use_all_cores
from wan22_bridge.planning.limits import shape_of_largest_part
from wan22_bridge.planning.planner import Planner, resolve_quantization
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import HardwareProfile, PlanConstraints, RequestShape
from wan22_bridge.types import Checkpoint, GenerationParams, GenerationResult, Preview, Progress

logger = logging.getLogger(__name__)


class ModelIntegrationBridge:
    """Loads models and generates videos with them, one at a time, on one device.

    Close the generator that `generate` returned to stop a generation. The generation stops at the next denoising step
    or decoded latent frame, writes a last snapshot, and removes its other files. The model stays usable. An exception
    thrown into the generator stops the generation without a last snapshot.
    """

    def __init__(
        self,
        *,
        exact: bool = False,
        hardware: HardwareProfile | None = None,
        constraints: PlanConstraints | None = None,
        scratch: Path | None = None,
        loras: Path = Path("loras"),
    ) -> None:
        """Creates a bridge without a loaded model.

        Args:
            exact: computes the same bits as diffusers' pipelines on the CPU, at a lower speed.
            hardware: the machine to plan for; None detects this machine when a model loads.
            constraints: operator constraints on every plan.
            scratch: the folder for weights that a plan offloads to the disk.
            loras: the folder of LoRAs.
        """
        self._exact = exact
        self._hardware = hardware
        self._constraints = constraints
        self._scratch = scratch
        self._loras = loras
        self._planners: dict[str, Planner] = {}
        self._meters: dict[tuple[str, Path], FootprintMeter] = {}
        """Kept between loads, because tracing a small model takes longer than loading the model again."""
        self._models: WeakSet[LoadedModel] = WeakSet()
        """The models that were loaded and are still in use."""
        self._texts = TextCache()
        self._decode_times = DecodeTimes()
        use_all_cores()

    @property
    def hardware(self) -> HardwareProfile:
        """The machine as it is now, or as it was given."""
        return self._hardware or detect_hardware(self._scratch or Path.cwd())

    def load(self, spec: ModelSpec, folder: Path, params: GenerationParams | None = None) -> LoadedModel:
        """Loads a model from its folder, under the best plan on this machine for a request.

        Args:
            spec: the model's catalogue entry.
            folder: the model's files.
            params: the request to plan for; None plans for the model's default request. `generate` changes the plan
                for each request if needed.

        Raises:
            ConfigurationError: the model's files do not support the configured quantization.
            ModelCorrupted: the folder is not a complete model of the spec's type.
            OutOfMemory: the model does not fit under any plan.
        """
        started = time.perf_counter()
        hardware = self.hardware
        dtypes = base_plan(hardware.device).dtypes
        known = (spec.id, folder)
        if known not in self._meters:
            self._meters[known] = FootprintMeter(find_architecture(spec, folder), hardware.device, dtypes)
        meter = self._meters[known]
        constraints = self._constraints or PlanConstraints()
        constraints = replace(constraints, quantization=spec.quantization or constraints.quantization)
        constraints = resolve_quantization(constraints, spec, in_gguf=meter.architecture.gguf_bytes is not None)
        planner = Planner(spec, hardware, meter.measure, constraints)
        plan = planner.choose(shape_of_largest_part(params) if params is not None else _default_shape(spec))
        model = LoadedModel(spec, folder, plan, exact=self._exact, scratch=self._scratch)
        self._models.add(model)
        self._planners[spec.id] = planner
        described = ", ".join(model.plan.describe()) or "all on the device"
        seconds = time.perf_counter() - started
        logger.info("Loaded %s in %.1f s: %s", spec.id, seconds, described, extra={"action": "model_loaded"})
        return model

    def _hardware_without(self, model: LoadedModel) -> HardwareProfile:
        """Returns the machine as it would be now without a model, or as it was given."""
        if self._hardware is not None:
            return self._hardware
        others = [other for other in self._models if other is not model]
        return add_own_memory(
            self.hardware,
            others_vram_bytes=sum(other.device_bytes for other in others),
            others_ram_bytes=sum(other.ram_bytes for other in others),
        )

    def generate(
        self,
        model: LoadedModel,
        params: GenerationParams,
        folder: Path,
        *,
        inputs: Path = Path(),
        checkpoint: Checkpoint | None = None,
        preview: Preview | None = None,
    ) -> Generator[Progress, None, GenerationResult]:
        """Generates one video into `folder`, which must not exist and appears only when the video is complete.

        When the device runs out of memory, the model is loaded again under a plan that takes less memory, and the
        generation resumes from its last step.

        Args:
            model: the model that `load` returned.
            params: the request.
            folder: the folder to create.
            inputs: the folder that contains the input files named in `params`.
            checkpoint: where to write snapshots, at the interval and when the generation stops. A snapshot of the
                same generation in that place is resumed to the same bits. The caller removes the file.
            preview: where to write previews. The caller removes the file.

        Returns:
            The paths of the files, and the resources that the generation used.

        Raises:
            OutOfMemory: the device is too small for the request.
            GenerationFailed: the model generated an unusable video, or a process of a multi-GPU group was lost.
            InvalidRequest: a LoRA is missing or does not fit the model, or an input file is unusable.
            StorageFailed: the video could not be written.
        """
        shared = SharedResources(
            planner=self._planners[model.spec.id],
            hardware=self._hardware_without,
            texts=self._texts,
            decode_times=self._decode_times,
            loras=self._loras,
        )
        return generate(model, params, folder, inputs=inputs, checkpoint=checkpoint, preview=preview, shared=shared)


def _default_shape(spec: ModelSpec) -> RequestShape:
    width, height = spec.size
    return RequestShape(width=width, height=height, num_frames=spec.num_frames, image=spec.image is not ImageInput.NONE)
