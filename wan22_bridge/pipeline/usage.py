"""Time, CPU and GPU memory that one generation used."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

_SAMPLE_SECONDS = 0.2
"""Time between two samples of the GPU's memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Resources that a generation used."""

    seconds: float
    """Wall-clock time."""
    cpu_percent: float
    """Percent of one core, averaged over the generation."""
    peak_vram_mb: float
    """Peak of the GPU memory that PyTorch allocated, in megabytes of 10^6 bytes; 0 on a CPU."""
    average_vram_mb: float
    """Average of the GPU memory that PyTorch allocated, in megabytes of 10^6 bytes; 0 on a CPU."""


class Average:
    """The average over time of a figure, which a thread reads regularly until `stop`."""

    def __init__(self, read: Callable[[], float], interval_seconds: float = _SAMPLE_SECONDS) -> None:
        """Reads the figure once, and starts the thread."""
        self._read, self._interval_seconds = read, interval_seconds
        self._sum, self._count = read(), 1
        self._stopped = threading.Event()
        self._thread = threading.Thread(name="usage samples", target=self._run, daemon=True)
        self._thread.start()

    @property
    def value(self) -> float:
        """The average up to now."""
        return self._sum / self._count

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_seconds):
            self._sum, self._count = self._sum + self._read(), self._count + 1


class UsageMeter:
    """Measures the usage of this process from the meter's creation until `stop`."""

    def __init__(self, device: torch.device) -> None:
        """Starts to measure, and resets PyTorch's peak of the GPU's memory."""
        self._device = device
        self._started = time.perf_counter()
        self._cpu_started = _cpu_seconds()
        self._vram_mb: Average | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._vram_mb = Average(lambda: torch.cuda.memory_allocated(device) / 1e6)

    def stop(self) -> None:
        """Ends the sampling of the GPU's memory."""
        if self._vram_mb is not None:
            self._vram_mb.stop()

    def read(self) -> Usage:
        """Returns the usage up to now."""
        seconds = time.perf_counter() - self._started
        cpu_seconds = _cpu_seconds() - self._cpu_started
        return Usage(
            seconds=round(seconds, 4),
            cpu_percent=round(100 * cpu_seconds / seconds, 1),
            peak_vram_mb=self._peak_vram_mb(),
            average_vram_mb=round(self._vram_mb.value, 1) if self._vram_mb else 0.0,
        )

    def _peak_vram_mb(self) -> float:
        if self._device.type != "cuda":
            return 0.0
        return round(torch.cuda.max_memory_allocated(self._device) / 1e6, 1)


def _cpu_seconds() -> float:
    """Returns the user and system time of this process."""
    return sum(psutil.Process().cpu_times()[:2])
