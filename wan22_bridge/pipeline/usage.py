"""Time, CPU and GPU memory that one generation used."""

import time
from dataclasses import dataclass

import psutil
import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Resources that a generation used."""

    seconds: float
    """Wall-clock time."""
    cpu_percent: float
    """Percent of one core, averaged over the generation."""
    peak_vram_mb: float
    """Peak of the GPU memory that PyTorch allocated, in megabytes of 10^6 bytes; 0 on a CPU."""


class UsageMeter:
    """Measures the usage of this process from the meter's creation on."""

    def __init__(self, device: torch.device) -> None:
        """Starts to measure, and resets PyTorch's peak of the GPU's memory."""
        self._device = device
        self._started = time.perf_counter()
        self._cpu_started = _cpu_seconds()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def read(self) -> Usage:
        """Returns the usage up to now."""
        seconds = time.perf_counter() - self._started
        cpu_seconds = _cpu_seconds() - self._cpu_started
        return Usage(
            seconds=round(seconds, 4),
            cpu_percent=round(100 * cpu_seconds / seconds, 1),
            peak_vram_mb=self._peak_vram_mb(),
        )

    def _peak_vram_mb(self) -> float:
        if self._device.type != "cuda":
            return 0.0
        return round(torch.cuda.max_memory_allocated(self._device) / 1e6, 1)


def _cpu_seconds() -> float:
    """Returns the user and system time of this process."""
    return sum(psutil.Process().cpu_times()[:2])
