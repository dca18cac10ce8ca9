"""What this machine has, as far as planning asks, and when it has run out."""

import os
import shutil
from pathlib import Path

import psutil
import torch

from wan22_bridge.plans import HardwareProfile


def detect_hardware(disk: Path) -> HardwareProfile:
    """The machine as this process sees it now; `disk` is a folder on the disk that weights may be offloaded to."""
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


def use_all_cores() -> None:
    """Gives torch every core that this process may run on.

    Ray sets OMP_NUM_THREADS from an actor's fractional `num_cpus`, which leaves a CPU generation on one core.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
