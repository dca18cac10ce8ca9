"""Detection of this machine's memory and GPUs."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from wan22_bridge.plans import HardwareProfile


def detect_hardware(disk: Path) -> HardwareProfile:
    """Returns the machine's current profile, as this process sees it.

    Args:
        disk: A folder on the disk to which weights may be offloaded. The folder need not exist.
    """
    memory = psutil.virtual_memory()
    while not disk.exists():
        disk = disk.parent
    common = {
        "ram_total_bytes": memory.total,
        "ram_available_bytes": memory.available,
        "disk_free_bytes": shutil.disk_usage(disk).free,
    }
    if not torch.cuda.is_available():
        return HardwareProfile(
            device="cpu",
            name="this machine's CPU",
            vram_total_bytes=0,
            vram_free_bytes=0,
            compute_capability=None,
            **common,
        )
    free, total = torch.cuda.mem_get_info()
    return HardwareProfile(
        device="cuda",
        name=torch.cuda.get_device_name(),
        vram_total_bytes=total,
        vram_free_bytes=free,
        compute_capability=torch.cuda.get_device_capability(),
        gpu_count=torch.cuda.device_count(),
        **common,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchRuntime:
    """torch in this process, and the GPUs that torch may use."""

    torch_version: str
    cuda_version: str | None
    """Version of CUDA that torch was built for; None without CUDA."""
    gpu_uuids: tuple[str, ...]
    """Ids of the GPUs, without a prefix."""


def detect_runtime() -> TorchRuntime:
    """Returns the versions of torch and CUDA, and the GPUs. This opens no GPU that is not open."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return TorchRuntime(
        torch_version=str(torch.__version__),
        cuda_version=torch.version.cuda,
        gpu_uuids=tuple(str(torch.cuda.get_device_properties(gpu).uuid) for gpu in gpus),
    )


def use_all_cores() -> None:
    """Lets torch use every core that this process may run on.

    Without this call a generation on a CPU uses one core, because Ray sets OMP_NUM_THREADS from an actor's fractional
    `num_cpus`.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
