"""Setting of PyTorch's allocator of pinned memory."""

from functools import cache

import torch

_LARGEST_ROUNDED_MB = 1


@cache
def pin_without_rounding() -> bool:
    """Makes PyTorch pin tensors of more than a megabyte in memory of their own size.

    By default each size is rounded up to a power of two, so that the 52 GiB of two experts take 80 GiB.

    Returns:
        Whether this version of PyTorch has the setting.
    """
    names = ("pinned_max_round_threshold_mb", "pinned_max_cached_size_mb")
    settings = [f"{name}:{_LARGEST_ROUNDED_MB}" for name in names]
    try:
        # A second call replaces nothing but the named settings. The environment's settings are named too, in case
        # another version replaces all.
        known = torch._C._accelerator_getAllocatorSettings()
        torch._C._accelerator_setAllocatorSettings(",".join(filter(None, [known, *settings])))
    except (AttributeError, RuntimeError, ValueError):
        return False
    return True
