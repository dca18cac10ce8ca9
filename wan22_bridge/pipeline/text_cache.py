"""Reuse of what is computed from the text alone: embeddings across jobs, and projections across steps.

Neither kind of reuse changes a bit of the result.

Tensor names carry their axes: B batch, L text tokens, D text width.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from diffusers import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import prompt_clean

from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.prompt_tokens import MAX_TEXT_TOKENS

PROJECTION_REUSE_MAX_TOKENS = 8 * MAX_TEXT_TOKENS
"""Maximum video tokens with which the text projections are reused across steps.

A longer video spends next to no time on its 512 text tokens. The keys and values of all layers for both prompts would
take 0.8 GB of memory for an A14B expert in bf16.
"""

_MAX_PROMPTS = 2
"""Texts of one run: the prompt and the negative prompt."""


class TextCache:
    """Embeddings of the most recent texts, shared by all models and jobs.

    Nearly every job has the same negative prompt, so its embeddings are usually in the cache.
    """

    def __init__(self, capacity: int = 32) -> None:
        """Creates an empty cache for `capacity` texts; the least recently used text is dropped first."""
        self._capacity = capacity
        self._entries: OrderedDict[tuple[str, str], torch.Tensor] = OrderedDict()

    @torch.no_grad()
    def encode(self, model: LoadedModel, text: str) -> torch.Tensor:
        """Returns the embeddings [1, 512, D] of one text, in the experts' dtype.

        Loads the text encoder onto the device if the text is not in the cache.
        """
        key = model.text_encoder_id, text
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        model.bring("text_encoder")
        embeds_BLD, _ = model.text.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=MAX_TEXT_TOKENS, device=model.device
        )
        self._entries[key] = embeds_BLD.to(model.dtype)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return self._entries[key]


def count_dropped_tokens(model: LoadedModel, text: str) -> int:
    """Returns the number of a text's tokens that the model cuts off."""
    tokens = model.text.tokenizer(prompt_clean(text)).input_ids
    return max(0, len(tokens) - MAX_TEXT_TOKENS)


@contextmanager
def reusing_text_projections(experts: Iterable[WanTransformer3DModel]) -> Iterator[None]:
    """Makes each expert compute its text projections at its first step only, within the context.

    The projections are the embedder's output and each layer's keys and values for cross-attention. The text embeddings
    must be the same tensor object at every step. Leaving the context frees the projections.
    """
    modules = [module for expert in experts for module in _text_modules(expert)]
    forwards = [vars(module).get("forward") for module in modules]
    for module in modules:
        module.forward = _Memoized(module.forward)
    try:
        yield
    finally:
        for module, forward in zip(modules, forwards, strict=True):
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def _text_modules(expert: WanTransformer3DModel) -> Iterator[torch.nn.Module]:
    """Yields the expert's modules whose input is the text alone."""
    yield expert.condition_embedder.text_embedder
    for block in expert.blocks:
        yield from (block.attn2.to_k, block.attn2.norm_k, block.attn2.to_v)


class _Memoized:
    """Calls a function once for each of the last few tensors, which are compared by identity."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._function = function
        self._results: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        for seen, result in self._results:
            if seen is given:
                return result
        result = self._function(given)
        self._results = [*self._results, (given, result)][-_MAX_PROMPTS:]
        return result
