"""Training the tiny transformers, and the text encoder with the first of them, by flow matching on latents."""

import json
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import T5TokenizerFast, UMT5EncoderModel

from wan22_bridge.tiny_training.latents import Batch
from wan22_bridge.tiny_training.optimizing import TinyOptimizer

TEXT_TOKENS = 512
"""How many the models are given when they work: a prompt and zeros."""
_TOKENS = 40
"""How many they are given here: the others are counted in the attention, not computed."""
BATCH = 24
_SHIFT = 3.0
"""Of the noise that is learnt: more of the high one, where it is decided what is seen."""
_WARM_UP_STEPS = 200
_CONSTANT = 0.4
"""The share of the steps before the learning rate falls."""
_AVERAGE = 0.999
_LOG_EVERY = 50


class Pool(Protocol):
    """What a transformer learns from."""

    def draw(self, size: int, *, empty: float) -> Batch:
        """A batch by chance, with a share of empty prompts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What one transformer learns."""

    steps: int
    lowest: float = 0.0
    """The noise that it learns, from 0 to 1: an expert learns its own range."""
    highest: float = 1.0
    rate: float = 1.0
    """A share of the highest learning rates: less where it goes on from trained weights."""
    sigmas: tuple[float, ...] = ()
    """Where the noise is always one of these."""
    empty: float = 0.1
    """The share of prompts that are left out, from which guidance learns."""
    timestep_per_token: bool = False
    """As TI2V has it."""


class TextReader:
    """Prompts → embeddings of few tokens, and what makes the attention to them the same as to `TEXT_TOKENS`.

    The pipelines set the embeddings behind a prompt's end to zero, so that their keys and values are all alike: a
    few of them, with the logarithm of how many each stands for added to their scores, weigh as much as all.
    """

    def __init__(self, tokenizer: T5TokenizerFast, encoder: UMT5EncoderModel) -> None:
        self.encoder = encoder
        self._tokenizer = tokenizer

    def read(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings [B, L, D] and what to add to the scores of cross-attention [B, 1, 1, L]."""
        tokens = self._tokenizer(
            prompts, padding="max_length", max_length=_TOKENS, truncation=True, return_tensors="pt"
        )
        mask_BL = tokens.attention_mask
        embeds_BLD = self.encoder(tokens.input_ids, mask_BL).last_hidden_state * mask_BL[..., None]
        count_B = mask_BL.sum(1)
        stands_for_B = torch.log((TEXT_TOKENS - count_B) / (_TOKENS - count_B).clamp(min=1))
        bias_BL = torch.where(mask_BL.bool(), 0.0, stands_for_B[:, None])
        return embeds_BLD, bias_BL[:, None, None]


class BiasedAttention:
    """Cross-attention with something added to its scores."""

    def __init__(self) -> None:
        self.bias: torch.Tensor | None = None
        self._inner = WanAttnProcessor()

    def __call__(self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: Any, *_: Any) -> torch.Tensor:
        attended: torch.Tensor = self._inner(attn, hidden_states, encoder_hidden_states, self.bias)
        return attended


@contextmanager
def few_tokens(*transformers: WanTransformer3DModel) -> Iterator[BiasedAttention]:
    """Lets transformers attend to what a `TextReader` reads: what is yielded takes its bias."""
    attention = BiasedAttention()
    layers = [block.attn2 for transformer in transformers for block in transformer.blocks]
    for layer in layers:
        layer.set_processor(attention)
    try:
        yield attention
    finally:
        for layer in layers:
            layer.set_processor(WanAttnProcessor())


@contextmanager
def in_bf16() -> Iterator[None]:
    """Computes in bf16 where that is enough, without the warning that norms are in fp32."""
    with torch.autocast("cpu", torch.bfloat16), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")
        yield


def train_flow(
    transformer: WanTransformer3DModel,
    text: TextReader,
    pool: Pool,
    course: Course,
    *,
    seed: int,
    log: Path,
) -> None:
    """Trains a transformer in place; the text encoder with it, where its parameters need gradients.

    Args:
        transformer: a new one, or trained weights to go on from.
        text: the text encoder that it listens to.
        pool: what it learns from.
        course: what it learns.
        seed: of how much noise there is.
        log: a file that gets a line of JSON each few steps.
    """
    chance = torch.Generator().manual_seed(seed)
    learnt = [transformer] + [text.encoder] * any(p.requires_grad for p in text.encoder.parameters())
    optimizer = TinyOptimizer(*learnt)
    averages = [{name: value.detach().clone() for name, value in module.state_dict().items()} for module in learnt]
    losses: list[float] = []
    began = time.monotonic()
    for done in range(course.steps):
        batch = pool.draw(BATCH, empty=course.empty)
        # Attention in plain steps: PyTorch's fused one takes twice as long for the gradient of so few tokens.
        with few_tokens(transformer) as attention, in_bf16(), sdpa_kernel(SDPBackend.MATH):
            embeds_BLD, bias = text.read(batch.prompts)
            attention.bias = bias.to(torch.bfloat16)
            loss = _loss(transformer, batch, embeds_BLD, course, chance)
            loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        falling = (1 - done / course.steps) / (1 - _CONSTANT)
        optimizer.step(course.rate * min((done + 1) / _WARM_UP_STEPS, falling, 1.0))
        keep = min(_AVERAGE, done / (done + 20))
        for module, average in zip(learnt, averages, strict=True):
            for name, value in module.state_dict().items():
                average[name].lerp_(value, 1 - keep)
        if (done + 1) % _LOG_EVERY == 0 or done + 1 == course.steps:
            record = {
                "step": done + 1,
                "of": course.steps,
                "seconds": round(time.monotonic() - began, 1),
                "loss": round(sum(losses) / len(losses), 4),
            }
            with log.open("a") as lines:
                print(json.dumps(record), file=lines)
            losses = []
    for module, average in zip(learnt, averages, strict=True):
        module.load_state_dict(average)


def _loss(
    transformer: WanTransformer3DModel,
    batch: Batch,
    embeds_BLD: torch.Tensor,
    course: Course,
    chance: torch.Generator,
) -> torch.Tensor:
    """How far the velocity that is predicted is from the noise less the latents."""
    x_BCTHW, noise_BCTHW = batch.latents_BCTHW, batch.noise_BCTHW
    sigma_B = draw_sigmas(len(x_BCTHW), course, chance)
    sigma_BCTHW = sigma_B.view(-1, 1, 1, 1, 1).expand(-1, 1, *x_BCTHW.shape[2:]).clone()
    sigma_BCTHW[batch.given_B, :, 0] = 0
    timestep = 1000 * (sigma_BCTHW[:, 0, :, ::2, ::2].flatten(1) if course.timestep_per_token else sigma_B)
    noisy_BCTHW = (1 - sigma_BCTHW) * x_BCTHW + sigma_BCTHW * noise_BCTHW
    if batch.images_BCTHW is not None:
        noisy_BCTHW = torch.cat([noisy_BCTHW, batch.images_BCTHW], dim=1)
    velocity_BCTHW = transformer(
        hidden_states=noisy_BCTHW, timestep=timestep, encoder_hidden_states=embeds_BLD, return_dict=False
    )[0]
    error_BCTHW = (velocity_BCTHW.float() - (noise_BCTHW - x_BCTHW)).square()
    counts_BCTHW = torch.ones_like(sigma_BCTHW)
    counts_BCTHW[batch.given_B, :, 0] = 0
    loss: torch.Tensor = (error_BCTHW * counts_BCTHW).sum() / (counts_BCTHW.sum() * x_BCTHW.shape[1])
    return loss


def draw_sigmas(count: int, course: Course, chance: torch.Generator) -> torch.Tensor:
    """Noise of the course's few values, or else by a shifted logit-normal distribution that is cut to its range."""
    if course.sigmas:
        return torch.tensor(course.sigmas)[torch.randint(len(course.sigmas), (count,), generator=chance)]
    edges = [torch.special.ndtr(_unshift(edge)).item() for edge in (course.lowest, course.highest)]
    normal_B = torch.special.ndtri(edges[0] + (edges[1] - edges[0]) * torch.rand(count, generator=chance))
    uniform_B = torch.sigmoid(normal_B)
    return _SHIFT * uniform_B / (1 + (_SHIFT - 1) * uniform_B)


def _unshift(sigma: float) -> torch.Tensor:
    """Where a noise lies before the shift, as a number of the normal distribution."""
    uniform = sigma / (_SHIFT - (_SHIFT - 1) * sigma)
    return torch.tensor(-math.inf if uniform <= 0 else math.inf if uniform >= 1 else math.log(uniform / (1 - uniform)))
