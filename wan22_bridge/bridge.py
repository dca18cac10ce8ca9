"""ModelIntegrationBridge: the one door between what serves and what generates."""

import logging
import time
from collections.abc import Generator
from pathlib import Path

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.conditioning import TextCache
from wan22_bridge.generation import Generation
from wan22_bridge.loading import LoadedModel, choose_device, load_model, use_all_cores
from wan22_bridge.types import Checkpoint, GenerationParams, GenerationResult, Progress

logger = logging.getLogger(__name__)


class ModelIntegrationBridge:
    """Loads models and generates videos with them, one at a time, on one device.

    Stop a generation by closing the generator that `generate` returned: it takes effect between two denoising
    steps or two decoded latent frames, leaves no file but its checkpoint and leaves the model as it was. An exception
    thrown into the generator stops it without keeping a last checkpoint.
    """

    def __init__(self, *, exact: bool = False) -> None:
        """`exact` gives up speed on the CPU for the very bits that diffusers' pipelines make."""
        self._exact = exact
        self._device = choose_device()
        self._texts: dict[str, TextCache] = {}
        self._decode_seconds_per_pixel: dict[str, float] = {}
        use_all_cores()

    def load(self, spec: ModelSpec, folder: Path) -> LoadedModel:
        """Loads a model from its folder onto this bridge's device.

        Raises:
            ModelCorrupted: the folder is not a whole model of the type.
            OutOfMemory: it does not fit.
        """
        started = time.perf_counter()
        model = load_model(spec, folder, self._device, exact=self._exact)
        logger.info("Loaded %s in %.1f s", spec.id, time.perf_counter() - started, extra={"action": "model_loaded"})
        return model

    def generate(
        self,
        model: LoadedModel,
        params: GenerationParams,
        folder: Path,
        *,
        inputs: Path = Path(),
        checkpoint: Checkpoint | None = None,
    ) -> Generator[Progress, None, GenerationResult]:
        """Generates one video into `folder`, which must not exist: it appears whole or not at all.

        Args:
            model: what `load` gave.
            params: what to make.
            folder: where to.
            inputs: the folder that the images' paths in `params` start from.
            checkpoint: where to keep how far it is, also when it is stopped, and where to go on from. What an
                earlier process kept of the same generation is continued to the same bits. The caller removes it.

        Returns:
            Where the files lie, and what it took.

        Raises:
            OutOfMemory: the device is too small for the request.
            GenerationFailed: the model made something unusable.
            StorageFailed: the video could not be written.
        """
        generation = Generation(
            model,
            params,
            folder,
            inputs=inputs,
            texts=self._texts.setdefault(params.model, TextCache()),
            checkpoint=checkpoint,
            decode_seconds_per_pixel=self._decode_seconds_per_pixel.get(params.model, 0.0),
        )
        result = yield from generation.run()
        self._decode_seconds_per_pixel[params.model] = generation.decode_seconds_per_pixel
        return result
