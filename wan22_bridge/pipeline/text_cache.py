"""Work that is the same at every step, done once a run. The bits stay."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from diffusers import WanTransformer3DModel

WORTHWHILE_TOKENS = 8 * 512
"""Of a video, at the most. A long one spends next to nothing on its 512 text tokens, and their keys and values, of all
layers and both prompts, would take memory: 0.8 GB for an A14B expert in bf16."""

_REMEMBERED = 2
"""The prompt and the negative prompt."""


@contextmanager
def text_computed_once(experts: Iterable[WanTransformer3DModel]) -> Iterator[None]:
    """Within the context, what an expert computes from the text alone is computed at its first step only.

    That is the projection of the embeddings, and each layer's keys and values for cross-attention. The embeddings
    must be the same tensor at every step. What was remembered goes with the context.
    """
    modules = [module for expert in experts for module in _modules_of_the_text(expert)]
    before = [vars(module).get("forward") for module in modules]
    for module in modules:
        module.forward = _Once(module.forward)
    try:
        yield
    finally:
        for module, forward in zip(modules, before, strict=True):
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def _modules_of_the_text(expert: WanTransformer3DModel) -> Iterator[torch.nn.Module]:
    yield expert.condition_embedder.text_embedder
    for block in expert.blocks:
        yield from (block.attn2.to_k, block.attn2.norm_k, block.attn2.to_v)


class _Once:
    """Calls a function once for each of the last few tensors, told apart by identity."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._function = function
        self._known: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        for seen, result in self._known:
            if seen is given:
                return result
        result = self._function(given)
        self._known = [*self._known, (given, result)][-_REMEMBERED:]
        return result
