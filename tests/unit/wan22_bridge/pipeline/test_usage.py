"""The figures of what a generation used."""

import threading

import pytest
import torch

from wan22_bridge.pipeline.usage import Average, UsageMeter


def test_the_average_is_that_of_all_samples() -> None:
    samples = [1.0, 2.0, 6.0]
    left, done = iter(samples), threading.Event()

    def read() -> float:
        value = next(left, None)
        if value is None:
            done.set()
            return 3.0  # which leaves the average as it is
        return value

    average = Average(read, interval_seconds=0.001)
    assert done.wait(30)
    average.stop()
    assert average.value == pytest.approx(3.0)


def test_on_a_cpu_the_figures_of_the_gpu_are_zero() -> None:
    meter = UsageMeter(torch.device("cpu"))
    meter.stop()
    usage = meter.read()
    assert (usage.peak_vram_mb, usage.average_vram_mb) == (0.0, 0.0)
    assert usage.seconds >= 0
