"""Residence of a model's components: where each component waits, and how streamed weights reach the device."""

import gc
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading

from wan22_bridge.models.offload_dir import OffloadDir, translating_offload_errors
from wan22_bridge.models.pinning import pin_without_rounding
from wan22_bridge.plans import Offload, OptimizationPlan, Residence


class Residences:
    """Puts the components of one loaded model where a plan wants them."""

    def __init__(self, plan: OptimizationPlan, scratch: Path | None) -> None:
        """Places nothing yet.

        Args:
            plan: The plan.
            scratch: Parent folder for weights that are offloaded to the disk. None: the system's folder for
                temporary files.
        """
        self._plan = plan
        self._device = torch.device(plan.device)
        self._scratch = scratch or Path(tempfile.gettempdir())
        self._offload_dir: OffloadDir | None = None

    def change(self, plan: OptimizationPlan) -> None:
        """Takes another plan, which the former plan can become without a reload. Moves nothing."""
        self._plan = plan

    def is_on_demand(self, name: str) -> bool:
        """Returns whether a component is on the device only for its work."""
        return self._plan.residence_of(name) is Residence.ON_DEMAND

    def is_reloaded(self, name: str) -> bool:
        """Returns whether a component is loaded from its files for each use, and is in no memory between the uses."""
        return self.is_on_demand(name) and self._plan.offload is Offload.DISK and name != "vae"

    def place(self, name: str, component: torch.nn.Module) -> torch.nn.Module:
        """Moves a component, which was loaded into RAM, to where it waits.

        Raises:
            StorageFailed: The weights can't be offloaded to the disk.
        """
        residence = self._plan.residence_of(name)
        if residence is Residence.RESIDENT:
            return component.to(self._device)
        if residence in (Residence.STREAMED, Residence.SEQUENTIAL):
            self._stream(name, component, by_block=residence is Residence.STREAMED)
        return component

    def discard(self, name: str) -> None:
        """Removes a component's offloaded weights from the disk."""
        if self._offload_dir is not None:
            shutil.rmtree(self._offload_dir.folder / name, ignore_errors=True)

    def close(self) -> None:
        """Removes all offloaded weights from the disk."""
        if self._offload_dir is not None:
            self._offload_dir.remove()
            self._offload_dir = None

    def _stream(self, name: str, component: Any, *, by_block: bool) -> None:
        on_gpu = self._device.type == "cuda"
        with translating_offload_errors():
            apply_group_offloading(
                # UMT5's blocks are children of its stack, not of the encoder. The encoder also holds the embeddings
                # a second time: they would be written to the disk after their memory was released.
                component.encoder if name == "text_encoder" else component,
                onload_device=self._device,
                offload_device=torch.device("cpu"),
                offload_type="block_level" if by_block else "leaf_level",
                num_blocks_per_group=1 if by_block else None,
                non_blocking=on_gpu,
                use_stream=on_gpu,
                record_stream=on_gpu,
                # Pinned once, weights take their size only if torch does not round. Otherwise they are pinned while
                # they are copied, which is slower and takes no more memory than the plan estimates.
                low_cpu_mem_usage=on_gpu and not pin_without_rounding(),
                offload_to_disk_path=self._folder_for(name) if self._plan.offload is Offload.DISK else None,
            )

    def _folder_for(self, name: str) -> str:
        if self._offload_dir is None:
            self._offload_dir = OffloadDir(self._scratch)
        return str(self._offload_dir.folder / name)


def free_memory(device: torch.device) -> None:
    """Returns the memory of released components to the device, so that the next component fits."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
