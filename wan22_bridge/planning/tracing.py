"""What a computation needs for its tensors, found by running it on the meta device, where nothing is computed."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


@torch.no_grad()
def trace_peak_bytes(
    computation: Callable[[], object], given: Iterable[torch.Tensor], *, convolutions_copy: bool = False
) -> int:
    """The most bytes that a computation's tensors take at any moment, without those that are `given` to it.

    Args:
        computation: it works on meta tensors alone.
        given: the weights and the inputs: what is there before.
        convolutions_copy: whether a convolution copies its input and output into a layout of its own, as oneDNN's do.
    """
    live = _LiveBytes(given, convolutions_copy)
    with _AttentionWithoutScores(), live:
        computation()
    return live.peak


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operators make, from the moment they are made until nobody holds them."""

    def __init__(self, given: Iterable[torch.Tensor], convolutions_copy: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live = 0
        self._convolutions_copy = convolutions_copy
        self._seen: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()
        self._given = list(given)
        for tensor in self._given:
            self._seen[tensor.untyped_storage()] = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                self._count(tensor.untyped_storage())
        if self._convolutions_copy and func is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self._live + args[0].nbytes + result.nbytes)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen[storage] = size = storage.nbytes()
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self._live -= size


class _AttentionWithoutScores(TorchFunctionMode):
    """Attention as the fused kernels do it: on the meta device torch would make the matrix of all scores."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return torch.empty_like(args[0] if args else (kwargs or {})["query"])
        return func(*args, **(kwargs or {}))
