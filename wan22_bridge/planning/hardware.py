"""Detection of this machine's memory and GPUs."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from wan22_bridge.machine import count_cores, read_ram
from wan22_bridge.plans import HardwareProfile


def detect_hardware(disk: Path) -> HardwareProfile:
    """Returns the machine's current profile, as this process sees it.

    Args:
        disk: A folder on the disk to which weights may be offloaded. The folder need not exist.
    """
    ram = read_ram()
    while not disk.exists():
        disk = disk.parent
    common = {
        "ram_total_bytes": ram.total_bytes,
        "ram_available_bytes": ram.available_bytes,
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


def add_own_memory(hardware: HardwareProfile, *, others_vram_bytes: int, others_ram_bytes: int) -> HardwareProfile:
    """Returns the machine as it would be without one of the models that this process has loaded.

    Args:
        hardware: The machine now.
        others_vram_bytes: GPU memory of this process's other models.
        others_ram_bytes: RAM of this process's other models.
    """
    own_vram = torch.cuda.memory_reserved() - others_vram_bytes if hardware.device == "cuda" else 0
    own_ram = _anonymous_bytes() - others_ram_bytes
    return replace(
        hardware,
        vram_free_bytes=min(hardware.vram_total_bytes, hardware.vram_free_bytes + max(0, own_vram)),
        ram_available_bytes=min(hardware.ram_total_bytes, hardware.ram_available_bytes + max(0, own_ram)),
    )


def _anonymous_bytes() -> int:
    """Returns this process's RAM that is not mapped from files. Mapped files count as available RAM already."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def use_all_cores() -> None:
    """Lets torch use every core that this process may run on.

    Without this call a generation on a CPU uses one core, because Ray sets OMP_NUM_THREADS from an actor's fractional
    `num_cpus`.
    """
    torch.set_num_threads(count_cores())
