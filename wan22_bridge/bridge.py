"""ModelIntegrationBridge: the one door between what serves and what generates."""

import logging
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from wan22_bridge.catalogue import ImageInput, ModelSpec
from wan22_bridge.models.architecture import find_architecture
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.pipeline.generation import Generation
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.footprint import FootprintMeter
from wan22_bridge.planning.hardware import detect_hardware, use_all_cores
from wan22_bridge.planning.planner import Planner, settle_wishes
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import HardwareProfile, RequestShape, Wishes
from wan22_bridge.types import Checkpoint, GenerationParams, GenerationResult, Preview, Progress

logger = logging.getLogger(__name__)


class ModelIntegrationBridge:
    """Loads models and generates videos with them, one at a time, on one device.

    Stop a generation by closing the generator that `generate` returned: it takes effect between two denoising
    steps or two decoded latent frames, leaves no file but its checkpoint and leaves the model as it was. An exception
    thrown into the generator stops it without keeping a last checkpoint.
    """

    def __init__(
        self,
        *,
        exact: bool = False,
        hardware: HardwareProfile | None = None,
        wishes: Wishes | None = None,
        scratch: Path | None = None,
        loras: Path = Path("loras"),
    ) -> None:
        """Opens nothing yet.

        Args:
            exact: gives up speed on the CPU for the very bits that diffusers' pipelines make.
            hardware: what to plan for; by default this machine as it is when a model is loaded.
            wishes: what every plan is to have.
            scratch: the folder on whose disk weights are laid out where a plan needs that.
            loras: the folder of LoRAs.
        """
        self._exact = exact
        self._hardware = hardware
        self._wishes = wishes
        self._scratch = scratch
        self._loras = loras
        self._planners: dict[str, Planner] = {}
        self._meters: dict[tuple[str, Path], FootprintMeter] = {}
        """What has been traced of a model takes longer than to load a small one again."""
        self._texts = TextCache()
        self._decode_seconds_per_pixel: dict[str, float] = {}
        use_all_cores()

    @property
    def device_name(self) -> str:
        """What it generates on."""
        return (self._hardware or detect_hardware(self._scratch or Path.cwd())).name

    def load(self, spec: ModelSpec, folder: Path) -> LoadedModel:
        """Loads a model from its folder, as is best on this machine for what it makes by default.

        Raises:
            ConfigurationError: its files don't go with the quantisation that is wished for.
            ModelCorrupted: the folder is not a whole model of the type.
            OutOfMemory: it does not fit, whatever is done.
        """
        started = time.perf_counter()
        hardware = self._hardware or detect_hardware(self._scratch or Path.cwd())
        dtypes = base_plan(hardware.device).dtypes
        known = (spec.id, folder)
        if known not in self._meters:
            self._meters[known] = FootprintMeter(find_architecture(spec, folder), hardware.device, dtypes)
        meter = self._meters[known]
        wishes = self._wishes or Wishes()
        wishes = replace(wishes, quantization=spec.quantization or wishes.quantization)
        wishes = settle_wishes(wishes, spec, in_gguf=meter.architecture.gguf_bytes is not None)
        planner = Planner(spec, hardware, meter.measure, wishes)
        shape = RequestShape(
            width=spec.size[0],
            height=spec.size[1],
            num_frames=spec.num_frames,
            image=spec.image is not ImageInput.NONE,
        )
        model = LoadedModel(spec, folder, planner.choose(shape), exact=self._exact, scratch=self._scratch)
        self._planners[spec.id] = planner
        done = ", ".join(model.plan.describe()) or "all on the device"
        logger.info(
            "Loaded %s in %.1f s: %s", spec.id, time.perf_counter() - started, done, extra={"action": "model_loaded"}
        )
        return model

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
        """Generates one video into `folder`, which must not exist: it appears whole or not at all.

        Where the device runs out of memory, the model is loaded anew in a way that takes less, and the generation goes
        on from its last step.

        Args:
            model: what `load` gave.
            params: what to make.
            folder: where to.
            inputs: the folder that the images' paths in `params` start from.
            checkpoint: where to keep how far it is, also when it is stopped, and where to go on from. What an
                earlier process kept of the same generation is continued to the same bits. The caller removes it.
            preview: where to show what the video is becoming. The caller removes it.

        Returns:
            Where the files lie, and what it took.

        Raises:
            OutOfMemory: the device is too small for the request.
            GenerationFailed: the model made something unusable.
            InvalidRequest: a LoRA is not there, or for another model.
            StorageFailed: the video could not be written.
        """
        generation = Generation(
            model,
            params,
            folder,
            inputs=inputs,
            loras=self._loras,
            texts=self._texts,
            planner=self._planners[model.spec.id],
            checkpoint=checkpoint,
            preview=preview,
            decode_seconds_per_pixel=self._decode_seconds_per_pixel.get(params.model, 0.0),
        )
        result = yield from generation.run()
        self._decode_seconds_per_pixel[params.model] = generation.decode_seconds_per_pixel
        return result
