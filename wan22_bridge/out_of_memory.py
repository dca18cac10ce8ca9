"""Recognition of out-of-memory errors."""

import errno

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether an error means that GPU memory or RAM ran out.

    The text is compared too, because PyTorch's CPU allocator, CUDA's allocator for pinned memory and `mmap` raise no
    error class of their own.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return any(words in str(error).lower() for words in ("allocate memory", "out of memory"))
