"""Recognition of a device's errors: memory that ran out, and a GPU that this process can't use any more."""

import errno

import torch
from torch.distributed import DistBackendError

from wan22_bridge.errors import Wan22Error

_OUT_OF_MEMORY = (
    "allocate memory",
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "allocation_failed",  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED and its like
    "unable to find an engine",  # No convolution of cuDNN has a workspace that fits.
)
"""Words of PyTorch's allocators, `mmap`, cuBLAS and cuDNN, none of which raises an error class of its own."""
_BROKEN = (
    "cuda error",
    "cublas error",
    "cublas_status_",
    "cudnn error",
    "cudnn_status_",
    "cusolver error",
    "nccl error",
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "uncorrectable ecc error",
)
"""Words of CUDA and its libraries after which every later call of this process fails, too."""
_REJECTED = ("status_not_supported", "status_bad_param", "status_invalid_value")
"""Words of cuBLAS and cuDNN for an operation that they do not have. The device remains usable."""


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that GPU memory or RAM ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return _contains(error, _OUT_OF_MEMORY)


def is_device_failure(error: BaseException | None) -> bool:
    """Returns whether an error of CUDA or NCCL leaves this process without a usable GPU.

    CUDA reports an illegal access or a hardware error again at every later call, so that only a new process can use
    the GPU. An error that was raised while a device's failure was handled counts, too. The bridge's own errors do not,
    because the bridge raises them after it has recovered.
    """
    if error is None or isinstance(error, Wan22Error) or is_out_of_memory(error):
        return False
    if isinstance(error, (torch.AcceleratorError, DistBackendError)):
        return True
    if isinstance(error, RuntimeError) and _contains(error, _BROKEN) and not _contains(error, _REJECTED):
        return True
    return is_device_failure(error.__cause__ or error.__context__)


def _contains(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(word in text for word in words)
