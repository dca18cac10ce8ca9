"""A loaded model: its components where a plan wants them, brought onto the device when they work."""

import gc
import shutil
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline, WanPipeline
from diffusers.hooks import apply_group_offloading

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.experts import Expert
from wan22_bridge.files import identify_files
from wan22_bridge.models.loading import check_model_type, load_component, load_tokenizer, reading_model
from wan22_bridge.models.offload_dir import Layout, laying_out
from wan22_bridge.models.sidecars import MagRatios, PreviewFactors, find_factors, find_ratios
from wan22_bridge.parallel import Division, Ranks
from wan22_bridge.plans import TILE_STRIDE, Offload, OptimizationPlan, Residence


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The message to a follower to load a model's experts. The follower answers it."""

    spec: ModelSpec
    folder: Path
    plan: OptimizationPlan
    exact: bool
    scratch: Path | None


class LoadedModel:
    """A model's components under a plan, seen through both of diffusers' pipelines.

    The components are shared: whoever uses one pipeline uses the other, so one generation at a time.
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
        """Loads from a diffusers folder.

        Args:
            spec: the catalogue's entry.
            folder: the model's files.
            plan: what goes where.
            exact: diffusers' own kernels, also where the CPU has faster ones that round differently.
            scratch: where weights are laid out that a plan offloads to the disk; the system's own by default.
            follows: this process's place in a group that another leads: then it has the experts alone.

        Raises:
            ModelCorrupted: the folder is not a whole model of the type.
            OutOfMemory: it does not fit on the device.
            RankLost: a process that is to help did not start.
        """
        self.spec = spec
        self.plan = plan
        self.device = torch.device(plan.device)
        self.text: WanPipeline
        self.image: WanImageToVideoPipeline
        """The same components; it makes the conditioning of an input image."""
        self._folder, self._exact, self._scratch = folder, exact, scratch
        self._layout: Layout | None = None
        self._follows = follows
        self.ranks: Ranks | None = None
        """The processes that run the experts together with this one, which leads; None where there are none."""
        self.preview_factors: PreviewFactors | None = None
        with reading_model(spec, folder):
            check_model_type(spec, folder)
        for _ in self._load():
            pass
        if follows is None:
            self.preview_factors = find_factors(folder, self.text.vae.config.z_dim)
        """None where nobody has fitted any to the VAE: then there are no previews."""
        self.mag_ratios: MagRatios | None = find_ratios(folder)
        """None where nobody has looked for them: then there is no MagCache."""

    @property
    def weights(self) -> str:
        """Names the weights and how they are computed with: a snapshot belongs to it."""
        exact = " exact" if self._exact else ""
        plan = self.plan
        ways = f"{plan.quantization} {plan.batched_guidance} {plan.attention_backend} {plan.compiled}"
        if plan.parallel_degree > 1:
            ways += f" over {plan.parallel_degree}"  # a part of the tokens may be computed by another kernel
        return f"{self.spec.id} {self._folder.name} {self._files}{exact} {ways}"

    @property
    def text_encoder_id(self) -> str:
        """Names what makes embeddings of a text: models that share it share the embeddings."""
        return f"{self._text_files} {self.plan.dtypes['text_encoder']} {self.plan.dtypes['experts']} {self.device}"

    @property
    def dtype(self) -> torch.dtype:
        """What the experts compute in."""
        dtype = getattr(torch, self.plan.dtypes["experts"])
        assert isinstance(dtype, torch.dtype)
        return dtype

    @property
    def device_bytes(self) -> int:
        """What its weights take on the GPU as long as no component is brought there; 0 on a CPU."""
        if self.device.type == "cpu":
            return 0
        modules = [module for name in self.components if (module := getattr(self.text, name)) is not None]
        weights = (weight for module in modules for weight in (*module.parameters(), *module.buffers()))
        return sum(weight.nbytes for weight in weights if weight.device.type != "cpu")

    def bring(self, name: str) -> Any:
        """Gives a component, ready to work; those that are there on demand make room for it.

        Args:
            name: transformer, transformer_2, text_encoder or vae.
        """
        for other in self.components:
            if other != name and self._residence(other) is Residence.ON_DEMAND:
                self._send_off(other)
        if self._residence(name) is Residence.ON_DEMAND:
            self._fetch(name)
        return getattr(self.text, name)

    @property
    def experts_are_streamed(self) -> bool:
        """Whether the experts' weights come in parts: what changes an expert then has to be done before that begins."""
        return self.plan.experts in (Residence.STREAMED, Residence.SEQUENTIAL)

    def rebuild(self, name: str, change: Callable[[Any], None]) -> Any:
        """Loads a component anew, lets `change` work on it, and puts it where the plan wants it.

        Raises:
            ModelCorrupted: its files can't be loaded any more.
        """
        self._replace(name, None)
        _free_memory(self.device)
        if self._layout is not None:
            shutil.rmtree(self._layout.folder / name, ignore_errors=True)
        with reading_model(self.spec, self._folder):
            component = self._read(name)
        change(component)
        self._replace(name, self._settle(name, component))
        return getattr(self.text, name)

    def replan(self, plan: OptimizationPlan) -> Generator[None, None, None]:
        """Loads anew, as another plan wants it, yielding after each component; closed early, it leaves nothing loaded.

        Raises:
            ModelCorrupted: the files can't be loaded any more.
            OutOfMemory: it does not fit on the device.
        """
        only_the_tile = self.is_loaded and replace(plan, vae_tile=self.plan.vae_tile) == self.plan
        if only_the_tile:
            self.plan = plan
            _set_tiling(self.text.vae, plan.vae_tile)
            return
        self.close()
        self.plan = plan
        yield from self._load()

    def close(self) -> None:
        """Lets go of the weights, of what was laid out on the disk, and of the processes that helped."""
        self._end_ranks()
        for name in self.components:
            self._replace(name, None)
        _free_memory(self.device)
        self.is_loaded = False
        if self._layout is not None:
            self._layout.remove()
            self._layout = None

    @property
    def experts_stay(self) -> bool:
        """Whether the experts are whole modules that last as long as the plan."""
        return self.plan.experts in (Residence.RESIDENT, Residence.ON_DEMAND) and not self._dropped("transformer")

    def _load(self) -> Generator[None, None, None]:
        self._files = _identify(self._folder)
        self._text_files = _identify(self._folder / "text_encoder", self._folder / "tokenizer")
        if self.plan.parallel_degree > 1 and self._follows is None:
            spec, folder, plan, exact = self.spec, self._folder, self.plan, self._exact
            load = Load(spec=spec, folder=folder, plan=plan, exact=exact, scratch=self._scratch)
            self.ranks = Ranks(load, degree=plan.parallel_degree, device=plan.device)
            self.ranks.start()
        try:
            with reading_model(self.spec, self._folder):
                yield from self._load_parts()
            if self.ranks is not None:
                self.ranks.wait_until_loaded()
        except BaseException:
            self._end_ranks()
            raise
        self.is_loaded = True
        """False once it was closed, or could not be loaded anew."""

    def _end_ranks(self) -> None:
        if self.ranks is not None:
            self.ranks.close()
            self.ranks = None

    def _load_parts(self) -> Generator[None, None, None]:
        index = WanPipeline.load_config(self._folder)
        experts = [name for name in Expert if (index.get(name) or [None])[0]]
        self.components = [*experts, "text_encoder", "vae"] if self._follows is None else experts
        """What the model has here, by the names of a pipeline."""
        parts: dict[str, Any] = {name: None for name in (*Expert, "text_encoder", "vae")}
        for name in self.components:
            if not self._dropped(name):
                parts[name] = self._settle(name, self._read(name))
                yield
        tokenizer = load_tokenizer(self._folder)
        scheduler = UniPCMultistepScheduler.from_pretrained(self._folder, subfolder="scheduler")
        options = {
            "boundary_ratio": index.get("boundary_ratio"),
            "expand_timesteps": bool(index.get("expand_timesteps")),
        }
        parts |= {"tokenizer": tokenizer, "scheduler": scheduler}
        self.text = WanPipeline(**parts, **options)
        self.image = WanImageToVideoPipeline(**parts, **options)
        self.text.set_progress_bar_config(disable=True)

    def _read(self, name: str) -> Any:
        """A component out of its files; an expert of several processes is run by all of them."""
        component = load_component(name, self._folder, self.plan, exact=self._exact)
        division = self.ranks or self._follows
        if division is not None and name in tuple(Expert):
            division.divide(component)
        return component

    def _replace(self, name: str, component: torch.nn.Module | None) -> None:
        for pipeline in (self.text, self.image):
            setattr(pipeline, name, component)

    def _settle(self, name: str, component: torch.nn.Module) -> torch.nn.Module:
        """Puts a component that was loaded where it waits."""
        residence = self._residence(name)
        if name == "vae":
            _set_tiling(component, self.plan.vae_tile)
        if residence is Residence.RESIDENT:
            return component.to(self.device)
        if residence in (Residence.STREAMED, Residence.SEQUENTIAL):
            self._stream(name, component, residence)
        return component

    def _stream(self, name: str, component: Any, residence: Residence) -> None:
        on_gpu = self.device.type == "cuda"
        by_block = residence is Residence.STREAMED
        with laying_out():
            apply_group_offloading(
                # Only UMT5's stack: its blocks are not the encoder's own children, and the encoder holds the embeddings
                # a second time, which would be laid out after their memory was given away.
                component.encoder if name == "text_encoder" else component,
                onload_device=self.device,
                offload_device=torch.device("cpu"),
                offload_type="block_level" if by_block else "leaf_level",
                num_blocks_per_group=1 if by_block else None,
                non_blocking=on_gpu,
                use_stream=on_gpu,
                record_stream=on_gpu,
                offload_to_disk_path=self._layout_folder(name) if self.plan.offload is Offload.DISK else None,
            )

    def _layout_folder(self, name: str) -> str:
        if self._layout is None:
            self._layout = Layout(self._scratch or Path(tempfile.gettempdir()))
        return str(self._layout.folder / name)

    def _residence(self, name: str) -> Residence:
        if name in tuple(Expert):
            return self.plan.experts
        return self.plan.text_encoder if name == "text_encoder" else self.plan.vae

    def _dropped(self, name: str) -> bool:
        """Whether a component that is off the device is not in memory at all, and read anew each time."""
        on_demand = self._residence(name) is Residence.ON_DEMAND
        return on_demand and self.plan.offload is Offload.DISK and name != "vae"

    def _send_off(self, name: str) -> None:
        component = getattr(self.text, name)
        if component is None or (not self._dropped(name) and self.device.type == "cpu"):
            return
        if self._dropped(name):
            self._replace(name, None)
            del component
        else:
            component.to("cpu")
        _free_memory(self.device)

    def _fetch(self, name: str) -> None:
        if getattr(self.text, name) is None:
            with reading_model(self.spec, self._folder):
                component = self._read(name)
            self._replace(name, component)
        getattr(self.text, name).to(self.device)


def _set_tiling(vae: Any, tile: int | None) -> None:
    """For the encoder; decoding is told with each call."""
    vae.use_tiling = tile is not None
    if tile is not None:
        stride = int(tile * TILE_STRIDE)
        vae.enable_tiling(tile, tile, stride, stride)


def _identify(*folders: Path) -> str:
    """Names what is in a model's folder, or in its parts."""
    found = (path for folder in folders for path in folder.rglob("*"))
    return identify_files(path for path in found if path.suffix in (".safetensors", ".gguf", ".json", ".model"))


def _free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
