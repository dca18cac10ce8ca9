"""Measurement of a computation's tensor memory, by running the computation on the meta device."""

import weakref
from collections.abc import Callable, Hashable, Iterable
from functools import cache
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
    """Returns the peak bytes of the tensors that a computation creates.

    Args:
        computation: Works on meta tensors only.
        given: Weights and inputs. They exist before the computation, so their bytes are not counted.
        convolutions_copy: Whether a convolution copies its input and output into a layout of its own, as oneDNN does.
    """
    live = _LiveBytes(given, convolutions_copy)
    with _AttentionWithoutScores(), live:
        computation()
    return live.peak


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operators create, from their creation until their release."""

    def __init__(self, given: Iterable[torch.Tensor], convolutions_copy: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live = 0
        self._convolutions_copy = convolutions_copy
        self._seen: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()
        self._given = list(given)
        for tensor in self._given:
            self._seen[tensor.untyped_storage()] = 0
        self._known: dict[Hashable, tuple[tuple[int, ...], tuple[int, ...], torch.dtype]] = {}
        """Shape, stride and dtype of the results so far, by the operator and its arguments."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = self._compute(func, args, kwargs or {})
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                self._count(tensor.untyped_storage())
        if self._convolutions_copy and func is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self._live + args[0].nbytes + result.nbytes)
        return result

    def _compute(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns an operator's result, by the layout of an earlier result where operator and arguments are equal.

        Layers repeat each other's operators, and many operators take milliseconds to find the layout of their result.
        """
        if not _makes_one_tensor(func):
            return func(*args, **kwargs)
        call = func, _describe(args), _describe([*kwargs.items()])
        if call in self._known:
            shape, stride, dtype = self._known[call]
            return torch.empty_strided(shape, stride, dtype=dtype, device="meta")
        result = func(*args, **kwargs)
        if result.is_meta:
            self._known[call] = tuple(result.shape), result.stride(), result.dtype
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


@cache
def _makes_one_tensor(func: Any) -> bool:
    """Returns whether an operator makes one new tensor and nothing else: no view, and no change of an argument."""
    schema = func._schema
    aliases = [value.alias_info for value in (*schema.arguments, *schema.returns) if value.alias_info is not None]
    if func._schema.name in ("aten::_unsafe_view", "aten::lift"):  # they share memory, which their schemas do not say
        return False
    return not aliases and [str(value.type) for value in schema.returns] == ["Tensor"]


def _describe(value: object) -> Hashable:
    """Returns the properties of an operator's arguments that determine the layout of its result."""
    if isinstance(value, torch.Tensor):
        return value.device, value.dtype, value.shape, value.stride()
    if isinstance(value, list | tuple):
        return tuple(_describe(item) for item in value)
    return type(value), value


class _AttentionWithoutScores(TorchFunctionMode):
    """Replaces attention by its output's shape.

    Fused kernels never create the matrix of attention scores, but torch's implementation on the meta device does.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return torch.empty_like(args[0] if args else (kwargs or {})["query"])
        return func(*args, **(kwargs or {}))
