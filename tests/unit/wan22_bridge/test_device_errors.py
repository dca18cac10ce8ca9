"""Tests of the recognition of a device's errors."""

import mmap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.device_errors import is_device_failure, is_out_of_memory
from wan22_bridge.errors import RankLost
from wan22_bridge.models.loading import translating_load_errors

_TOO_MUCH = 1 << 50
_ILLEGAL_ACCESS = "CUDA error: an illegal memory access was encountered"

OUT_OF_MEMORY = [
    "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "GET was unable to find an engine to execute this computation",
]
FAILURES = [
    torch.AcceleratorError(_ILLEGAL_ACCESS),
    torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:3356, unhandled system error"),
    RuntimeError(_ILLEGAL_ACCESS),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
]
OTHERS = [
    ValueError("an argument"),
    RuntimeError("shapes cannot be multiplied"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
]


@pytest.mark.parametrize(
    "allocate", [lambda: torch.empty(_TOO_MUCH), lambda: bytearray(_TOO_MUCH), lambda: mmap.mmap(-1, _TOO_MUCH)]
)
def test_out_of_memory_errors_of_all_allocators_are_recognized(allocate: Callable[[], object]) -> None:
    with pytest.raises((RuntimeError, MemoryError, OSError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("words", OUT_OF_MEMORY)
def test_out_of_memory_is_recognized_in_the_words_of_cuda_libraries(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words))
    assert not is_device_failure(torch.AcceleratorError(words))


def test_other_errors_are_not_taken_for_out_of_memory(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        (tmp_path / "nothing").read_bytes()
    assert not is_out_of_memory(caught.value)
    assert not any(is_out_of_memory(error) for error in (*OTHERS[:3], *FAILURES))


@pytest.mark.parametrize("error", FAILURES, ids=str)
def test_errors_after_which_no_call_succeeds_are_failures_of_the_device(error: Exception) -> None:
    assert is_device_failure(error)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_are_not_failures_of_the_device(error: Exception) -> None:
    assert not is_device_failure(error)


def _fail_in_cleanup() -> None:
    try:
        raise FAILURES[0]
    except RuntimeError:
        dict[str, str]()["cleanup"]


def _recover_from_a_lost_rank() -> None:
    try:
        raise FAILURES[1]
    except RuntimeError as exc:
        raise RankLost("rank 1 is gone") from exc


def test_an_error_raised_while_a_failure_is_handled_is_a_failure() -> None:
    with pytest.raises(KeyError) as caught:
        _fail_in_cleanup()
    assert is_device_failure(caught.value)


def test_a_lost_rank_is_no_failure_of_this_process() -> None:
    with pytest.raises(RankLost) as caught:
        _recover_from_a_lost_rank()
    assert not is_device_failure(caught.value)


def test_a_failing_device_is_not_taken_for_corrupted_files(tmp_path: Path) -> None:
    with (
        pytest.raises(torch.AcceleratorError, match="illegal memory access"),
        translating_load_errors(load_catalogue()["tiny-t2v"], tmp_path),
    ):
        raise torch.AcceleratorError(_ILLEGAL_ACCESS)
