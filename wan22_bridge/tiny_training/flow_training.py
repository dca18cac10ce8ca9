"""Flow-matching training of the tiny transformers, and of the text encoder together with the first of them."""

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
"""Tokens that the models get at inference: the prompt, padded with zeros."""
_TOKENS = 40
"""Tokens computed in training. A bias in the attention accounts for the rest of the padding."""
BATCH = 24
"""Scenes per batch."""
_SHIFT = 3.0
"""Shift of the noise distribution towards high noise, which decides the content of a video."""
_WARM_UP_STEPS = 200
_CONSTANT = 0.4
"""Share of the steps before the learning rate falls."""
_AVERAGE = 0.999
"""Maximum decay of the weights' moving average."""
_LOG_EVERY = 50


class Pool(Protocol):
    """Source of training batches."""

    def draw(self, size: int, *, empty: float) -> Batch:
        """Draws a random batch with a share of empty prompts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """Training schedule of one transformer."""

    steps: int
    lowest: float = 0.0
    """Lowest noise to learn, in 0..1. An expert learns its own range."""
    highest: float = 1.0
    """Highest noise to learn, in 0..1."""
    rate: float = 1.0
    """Share of the highest learning rates, which is smaller for already trained weights."""
    sigmas: tuple[float, ...] = ()
    """Discrete noise levels; if set, they replace the range."""
    empty: float = 0.1
    """Share of empty prompts, which guidance needs."""
    timestep_per_token: bool = False
    """Whether each token has its own timestep, as in TI2V."""


class TextReader:
    """Encodes prompts to a few tokens, with an attention bias that makes them equivalent to `TEXT_TOKENS`.

    The pipelines set the embeddings after a prompt's end to zero, so that all padding tokens have equal keys and
    values. Each computed padding token stands for several. The logarithm of their number, added to the attention's
    scores, gives it their combined weight.
    """

    def __init__(self, tokenizer: T5TokenizerFast, encoder: UMT5EncoderModel) -> None:
        self.encoder = encoder
        self._tokenizer = tokenizer

    def read(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the embeddings [B, L, D], and the bias [B, 1, 1, L] for the scores of cross-attention."""
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
    """Cross-attention processor that adds `bias` to the scores."""

    def __init__(self) -> None:
        self.bias: torch.Tensor | None = None
        self._inner = WanAttnProcessor()

    def __call__(self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: Any, *_: Any) -> torch.Tensor:
        attended: torch.Tensor = self._inner(attn, hidden_states, encoder_hidden_states, self.bias)
        return attended


@contextmanager
def few_tokens(*transformers: WanTransformer3DModel) -> Iterator[BiasedAttention]:
    """Yields a processor of the transformers' cross-attention, on which the caller sets the bias of a `TextReader`."""
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
    """Enables autocast to bf16, without PyTorch's warning about norms in fp32."""
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
    """Trains a transformer in place, and also the text encoder if its parameters require gradients.

    Args:
        transformer: New or already trained transformer.
        text: Text encoder of the prompts.
        pool: Source of the batches.
        course: Training schedule.
        seed: Seed of the noise levels.
        log: File to which a line of JSON is appended every 50 steps.
    """
    chance = torch.Generator().manual_seed(seed)
    trained = [transformer] + [text.encoder] * any(p.requires_grad for p in text.encoder.parameters())
    optimizer = TinyOptimizer(*trained)
    averages = [{name: value.detach().clone() for name, value in module.state_dict().items()} for module in trained]
    losses: list[float] = []
    began = time.monotonic()
    for done in range(course.steps):
        batch = pool.draw(BATCH, empty=course.empty)
        # For so few tokens, the gradient of PyTorch's fused attention takes twice as long as that of the plain one.
        with few_tokens(transformer) as attention, in_bf16(), sdpa_kernel(SDPBackend.MATH):
            embeds_BLD, bias = text.read(batch.prompts)
            attention.bias = bias.to(torch.bfloat16)
            loss = _loss(transformer, batch, embeds_BLD, course, chance)
            loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        falling = (1 - done / course.steps) / (1 - _CONSTANT)
        optimizer.step(course.rate * min((done + 1) / _WARM_UP_STEPS, falling, 1.0))
        keep = min(_AVERAGE, done / (done + 20))
        for module, average in zip(trained, averages, strict=True):
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
    for module, average in zip(trained, averages, strict=True):
        module.load_state_dict(average)


def _loss(
    transformer: WanTransformer3DModel,
    batch: Batch,
    embeds_BLD: torch.Tensor,
    course: Course,
    chance: torch.Generator,
) -> torch.Tensor:
    """Returns the mean squared error of the predicted velocity, whose target is the noise minus the latents."""
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
    """Draws the course's discrete noise levels, or a shifted logit-normal distribution within its range."""
    if course.sigmas:
        return torch.tensor(course.sigmas)[torch.randint(len(course.sigmas), (count,), generator=chance)]
    edges = [torch.special.ndtr(_unshift(edge)).item() for edge in (course.lowest, course.highest)]
    normal_B = torch.special.ndtri(edges[0] + (edges[1] - edges[0]) * torch.rand(count, generator=chance))
    uniform_B = torch.sigmoid(normal_B)
    return _SHIFT * uniform_B / (1 + (_SHIFT - 1) * uniform_B)


def _unshift(sigma: float) -> torch.Tensor:
    """Returns the value of the normal distribution that the shift and the sigmoid map to `sigma`."""
    uniform = sigma / (_SHIFT - (_SHIFT - 1) * sigma)
    return torch.tensor(-math.inf if uniform <= 0 else math.inf if uniform >= 1 else math.log(uniform / (1 - uniform)))
