"""Recognition of out-of-memory errors."""

import errno

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Whether something failed for want of memory, on a GPU or on the CPU.

    PyTorch's allocator for the CPU, CUDA's for pinned memory and `mmap` have no error of their own for it.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return any(words in str(error).lower() for words in ("allocate memory", "out of memory"))
