"""The deployment that makes models available: one fetch of a model at a time."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.downloads import ensure_model
from wan22_bridge.errors import ModelMissing

logger = logging.getLogger("ray.serve")


class Downloader:
    """Finds or makes the folders of models."""

    def __init__(self, models_dir: Path, served: Sequence[ModelSpec]) -> None:
        self._models_dir = models_dir
        self._served = {spec.id: spec for spec in served}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(self, model_id: str) -> Path:
        """The folder of a served model, once it is there.

        Raises:
            ModelMissing: it can't be had.
        """
        if model_id not in self._served:
            raise ModelMissing(
                f"{model_id} is no longer served here.", suggestions=["Submit the job for another model."]
            )
        async with self._locks[model_id]:
            folder = await asyncio.to_thread(ensure_model, self._served[model_id], self._models_dir)
        logger.info("Model %s is available", model_id, extra={"action": "model_available"})
        return folder
