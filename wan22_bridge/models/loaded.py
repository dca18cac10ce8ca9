"""A loaded model, which runs under a plan and can be reloaded under another plan."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from diffusers import WanImageToVideoPipeline, WanPipeline

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.experts import Expert, is_expert
from wan22_bridge.models.identity import identify_computation, identify_model, identify_text_encoder
from wan22_bridge.models.loading import (
    Load,
    build_pipelines,
    check_model_type,
    list_experts,
    load_component,
    set_tiling,
    translating_load_errors,
)
from wan22_bridge.models.residence import Residences, free_memory
from wan22_bridge.models.sidecars import MagRatios, PreviewFactors, find_factors, find_ratios
from wan22_bridge.parallel import Division, Ranks
from wan22_bridge.plans import OptimizationPlan, Residence


class LoadedModel:
    """A model's components under a plan, accessible through two diffusers pipelines.

    Both pipelines share the components, so only one generation may run at a time.
    """

    def __init__(
        self,
        spec: ModelSpec,
        folder: Path,
        plan: OptimizationPlan,
        *,
        exact: bool = False,
        scratch: Path | None = None,
        follows: Division | None = None,
    ) -> None:
        """Loads a model from a folder in diffusers' format.

        Args:
            spec: The model's catalogue entry.
            folder: The model's folder.
            plan: The plan to load the model under.
            exact: Whether to use diffusers' own kernels on the CPU instead of faster kernels that round differently.
            scratch: Parent folder for weights that are offloaded to the disk. None: the system's temporary folder.
            follows: This process's place in a group that another process leads. The process then loads the experts
                only. None: this process leads, or is alone.

        Raises:
            ModelCorrupted: The folder does not hold a complete model of the type in `spec`.
            OutOfMemory: The model does not fit into the device's memory.
            StorageFailed: The weights can't be offloaded to the disk.
            RankLost: A follower did not start.
        """
        self.spec = spec
        self.plan = plan
        self.device = torch.device(plan.device)
        self.is_loaded = False
        """Whether all components are available. False after `close` and after a reload that failed or was stopped."""
        self.placed_bytes = 0
        """Bytes of the weights that were on the GPU when the present plan took effect. 0 on a CPU."""
        self.components: list[str] = []
        """Names of the components that this process loads, as in diffusers' pipelines."""
        self.text: WanPipeline
        self.image: WanImageToVideoPipeline
        """Prepares the conditioning of an input image, with the same components as `text`."""
        self._folder, self._exact, self._scratch, self._follows = folder, exact, scratch, follows
        self.ranks: Ranks | None = None
        """The group of processes that run the experts together, led by this process. None: this process is alone."""
        self.preview_factors: PreviewFactors | None = None
        """Factors for previews. None if the VAE has none: the model then has no previews."""
        with translating_load_errors(spec, folder):
            check_model_type(spec, folder)
        for _ in self._load():
            pass
        if follows is None:
            self.preview_factors = find_factors(folder, self.text.vae.config.z_dim)
        self.mag_ratios: MagRatios | None = find_ratios(folder)
        """Calibrated ratios for the step cache MagCache. None if the model is not calibrated."""

    @property
    def weights(self) -> str:
        """Name for the weights and for how they are computed with. A snapshot is valid only for equal names."""
        computation = identify_computation(self.plan, exact=self._exact)
        return f"{self.spec.id} {self._folder.name} {self._identity} {computation}"

    @property
    def text_encoder_id(self) -> str:
        """Name for the text encoder and its computation. Models with equal names share their text embeddings."""
        return f"{self._text_identity} {self.plan.dtypes['text_encoder']} {self.plan.dtypes['experts']} {self.device}"

    @property
    def dtype(self) -> torch.dtype:
        """Compute dtype of the experts."""
        dtype: torch.dtype = getattr(torch, self.plan.dtypes["experts"])
        return dtype

    @property
    def device_bytes(self) -> int:
        """Bytes of the weights that are on the GPU now. 0 on a CPU."""
        return 0 if self.device.type == "cpu" else self._weigh(self.device.type)

    @property
    def ram_bytes(self) -> int:
        """Bytes of the weights that are in RAM now."""
        return self._weigh("cpu")

    def _weigh(self, device_type: str) -> int:
        modules = [module for name in self.components if (module := getattr(self.text, name)) is not None]
        weights = (weight for module in modules for weight in (*module.parameters(), *module.buffers()))
        return sum(weight.nbytes for weight in weights if weight.device.type == device_type)

    @property
    def experts_are_streamed(self) -> bool:
        """Whether the experts' weights are loaded in parts. An expert can then change only before it is streamed."""
        return self.plan.experts in (Residence.STREAMED, Residence.SEQUENTIAL)

    @property
    def experts_stay(self) -> bool:
        """Whether the experts are whole modules that exist as long as the plan."""
        return not self.experts_are_streamed and not self._residences.is_reloaded(Expert.HIGH_NOISE)

    def bring(self, name: str) -> Any:
        """Returns a component, ready to work. Other components that are on the device on demand leave it.

        Args:
            name: `transformer`, `transformer_2`, `text_encoder` or `vae`.

        Raises:
            ModelCorrupted: The component's files can't be loaded any more.
            OutOfMemory: The component does not fit into memory.
        """
        for other in self.components:
            if other != name and self._residences.is_on_demand(other):
                self._offload(other)
        if self._residences.is_on_demand(name):
            self._onload(name)
        return getattr(self.text, name)

    def rebuild(self, name: str, change: Callable[[Any], None]) -> Any:
        """Reloads a component from its files, changes it, and moves it to where the plan wants it.

        Args:
            name: The component's name.
            change: Changes the component in place.

        Raises:
            ModelCorrupted: The component's files can't be loaded any more.
        """
        self._replace(name, None)
        free_memory(self.device)
        self._residences.discard(name)
        with translating_load_errors(self.spec, self._folder):
            component = self._read(name)
        change(component)
        self._replace(name, self._residences.place(name, component))
        return getattr(self.text, name)

    def replan(self, plan: OptimizationPlan) -> Generator[None, None, None]:
        """Runs the model under another plan: moves its components if that is enough, else reloads them.

        Yields after each component that is loaded. If the generator is closed early, no component remains loaded.

        Raises:
            ModelCorrupted: The files can't be loaded any more.
            OutOfMemory: The model does not fit into the device's memory.
        """
        if self.is_loaded and self.plan.can_become(plan):
            self._move(plan)
            return
        self.close()
        self.plan = plan
        yield from self._load()

    def close(self) -> None:
        """Releases the weights, removes offloaded weights from the disk, and ends the followers."""
        self._end_ranks()
        for name in self.components:
            self._replace(name, None)
        free_memory(self.device)
        self.is_loaded = False
        self.placed_bytes = 0
        self._residences.close()

    def _load(self) -> Generator[None, None, None]:
        self._identity = identify_model(self._folder)
        self._text_identity = identify_text_encoder(self._folder)
        self._residences = Residences(self.plan, self._scratch)
        if self.plan.parallel_degree > 1 and self._follows is None:
            self._start_ranks()
        try:
            with translating_load_errors(self.spec, self._folder):
                yield from self._load_components()
            if self.ranks is not None:
                self.ranks.wait_until_loaded()
        except BaseException:
            self._end_ranks()
            raise
        self.is_loaded = True
        self.placed_bytes = self.device_bytes

    def _move(self, plan: OptimizationPlan) -> None:
        """Moves the components between RAM and the device to where another plan wants them."""
        before, self.plan = self.plan, plan
        self._residences.change(plan)
        set_tiling(self.text.vae, plan.vae_tile)
        moved = [name for name in self.components if before.residence_of(name) is not plan.residence_of(name)]
        for name in moved:
            if self._residences.is_on_demand(name):
                self._offload(name)
        try:
            with translating_load_errors(self.spec, self._folder):
                for name in moved:
                    self._residences.place(name, getattr(self.text, name))
        except BaseException:
            self.close()  # A component that was moved in part is unusable.
            raise
        self.placed_bytes = self.device_bytes

    def _start_ranks(self) -> None:
        load = Load(spec=self.spec, folder=self._folder, plan=self.plan, exact=self._exact, scratch=self._scratch)
        self.ranks = Ranks(load, degree=self.plan.parallel_degree, device=self.plan.device)
        self.ranks.start()

    def _end_ranks(self) -> None:
        if self.ranks is not None:
            self.ranks.close()
            self.ranks = None

    def _load_components(self) -> Generator[None, None, None]:
        others = ["text_encoder", "vae"] if self._follows is None else []
        self.components = [*list_experts(self._folder), *others]
        components: dict[str, torch.nn.Module] = {}
        for name in self.components:
            if not self._residences.is_reloaded(name):
                components[name] = self._residences.place(name, self._read(name))
                yield
        self.text, self.image = build_pipelines(self._folder, components)

    def _read(self, name: str) -> Any:
        """Loads a component into RAM from its files. In a group of processes, experts are divided over the group."""
        component = load_component(name, self._folder, self.plan, exact=self._exact)
        division = self.ranks or self._follows
        if division is not None and is_expert(name):
            division.divide(component)
        return component

    def _replace(self, name: str, component: torch.nn.Module | None) -> None:
        for pipeline in (self.text, self.image):
            setattr(pipeline, name, component)

    def _offload(self, name: str) -> None:
        """Moves a component off the device. A component that is reloaded for each use is released."""
        component = getattr(self.text, name)
        is_reloaded = self._residences.is_reloaded(name)
        if component is None:
            return
        if not is_reloaded and next(component.parameters()).device.type == "cpu":
            return  # At each step, all other components are off already, and freeing memory again takes long.
        if is_reloaded:
            self._replace(name, None)
            del component
        else:
            component.to("cpu")
        free_memory(self.device)

    def _onload(self, name: str) -> None:
        """Moves a component to the device, from RAM or from its files."""
        if getattr(self.text, name) is None:
            with translating_load_errors(self.spec, self._folder):
                self._replace(name, self._read(name))
        getattr(self.text, name).to(self.device)
