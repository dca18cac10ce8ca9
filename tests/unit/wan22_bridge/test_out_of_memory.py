"""Tests of the recognition of out-of-memory errors."""

import mmap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wan22_bridge.out_of_memory import is_out_of_memory

_TOO_MUCH = 1 << 50


@pytest.mark.parametrize(
    "allocate", [lambda: torch.empty(_TOO_MUCH), lambda: bytearray(_TOO_MUCH), lambda: mmap.mmap(-1, _TOO_MUCH)]
)
def test_out_of_memory_errors_of_all_allocators_are_recognized(allocate: Callable[[], object]) -> None:
    with pytest.raises((RuntimeError, MemoryError, OSError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)


def test_other_errors_are_not_taken_for_out_of_memory(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        (tmp_path / "nothing").read_bytes()
    assert not is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
