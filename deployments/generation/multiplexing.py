"""The models that a replica keeps loaded, by Serve's multiplexing, with all use of the device in one thread."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.generation.device import Device
from deployments.jobs.replica_registry import LoadedInfo
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import ModelCorrupted
from wan22_bridge.types import GenerationParams

if TYPE_CHECKING:
    from wan22_bridge.models.loaded import LoadedModel

logger = logging.getLogger("ray.serve")


class Loaded:
    """A loaded model. Serve calls `__del__` to evict the model, and Python calls it a second time."""

    def __init__(self, model: "LoadedModel", unload: Callable[["LoadedModel"], None]) -> None:
        self.model: LoadedModel | None = model
        self._unload = unload

    def __del__(self) -> None:
        """Unloads the model and returns when its memory is free, because the next model may need it."""
        model, self.model = self.model, None
        if model is not None:
            self._unload(model)


class Models:
    """Loads models on demand and evicts the least recently used ones."""

    def __init__(
        self,
        device: Device,
        served: Mapping[str, ModelSpec],
        downloader: DeploymentHandle[Any],
        *,
        most: int,
        changed: Callable[[], None],
    ) -> None:
        """Sets up the multiplexing without loading a model.

        Args:
            device: loads and unloads the models in its thread, so that a model in use is never unloaded.
            served: the models by id.
            downloader: provides the folders of models.
            most: the largest number of loaded models.
            changed: called after a model was loaded or unloaded.
        """
        self._device, self._served, self._downloader = device, served, downloader
        self._changed = changed
        self._loaded: dict[str, tuple[LoadedModel, LoadedInfo]] = {}
        """Each loaded model, and its report from the end of the loading; least recently used first."""
        self._planned_for: dict[str, GenerationParams | None] = {}
        """The latest request of each model. Serve's multiplexer passes nothing but the model's id."""
        self._loads: set[asyncio.Future[Loaded]] = set()
        self._multiplexed = self._multiplex(most)

    @property
    def infos(self) -> list[LoadedInfo]:
        """The loaded models under their present plans, which jobs may change; least recently used first."""
        return [
            replace(
                info,
                plan=model.plan.describe(),
                quantization=model.plan.quantization.value,
                vram_mb=model.placed_bytes / 1e6,
            )
            for model, info in self._loaded.values()
        ]

    def load(self, model_id: str, params: GenerationParams | None = None) -> "asyncio.Future[Loaded]":
        """Loads a model if needed and returns it. An abandoned load continues, because the next job may need it.

        Args:
            model_id: the model.
            params: the request that a new load is planned for; None plans for the model's defaults.
        """
        self._planned_for[model_id] = params
        load = asyncio.ensure_future(self._multiplexed(model_id))
        self._loads.add(load)
        load.add_done_callback(self._loads.discard)
        if model_id in self._loaded:
            self._loaded[model_id] = self._loaded.pop(model_id)
        return load

    def _multiplex(self, most: int) -> Callable[[str], Awaitable[Loaded]]:
        """Creates Serve's multiplexer, which also reports the loaded models to the routers."""

        @serve.multiplexed(max_num_models_per_replica=most)  # type: ignore[untyped-decorator]
        async def load(model_id: str) -> Loaded:
            started = time.perf_counter()
            folder: Path = await self._downloader.ensure.remote(model_id)
            try:
                model = await self._load(model_id, folder)
            except ModelCorrupted:
                if not self._served[model_id].is_fetched:
                    raise
                extra = {"action": "model_repair", "model": model_id}
                logger.exception("%s can't be loaded: its files are checked and repaired", model_id, extra=extra)
                folder = await self._downloader.ensure.remote(model_id, check_content=True)
                model = await self._load(model_id, folder)
            info = LoadedInfo(
                model=model_id,
                plan=model.plan.describe(),
                load_seconds=time.perf_counter() - started,
                vram_mb=model.placed_bytes / 1e6,
            )
            self._loaded[model_id] = model, info
            self._changed()
            return Loaded(model, self._unload)

        return cast(Callable[[str], Awaitable[Loaded]], load)

    async def _load(self, model_id: str, folder: Path) -> "LoadedModel":
        loop, spec = asyncio.get_running_loop(), self._served[model_id]
        params = self._planned_for.get(model_id)
        return await loop.run_in_executor(self._device.thread, self._device.load, spec, folder, params)

    def _unload(self, model: "LoadedModel") -> None:
        self._loaded.pop(model.spec.id, None)
        # After the thread's end, `submit` raises RuntimeError. The process then ends soon, which frees all memory.
        with contextlib.suppress(RuntimeError):
            self._device.thread.submit(model.close).result()
        self._changed()
