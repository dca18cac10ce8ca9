"""LoRA files for the tiny transformers."""

from pathlib import Path

import torch
from safetensors.torch import save_file

WIDTH = 192
"""Width of the tiny transformers' hidden states."""


def write_lora(path: Path, *, seed: int = 0, width: int = WIDTH, metadata: dict[str, str] | None = None) -> Path:
    """Writes a random LoRA of rank 4 for the queries of self-attention and the outputs of cross-attention."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for index in range(2):
        for layer in ("attn1.to_q", "attn2.to_out.0"):
            for part, shape in (("A", (4, width)), ("B", (width, 4))):
                name = f"transformer.blocks.{index}.{layer}.lora_{part}.weight"
                weights[name] = 0.3 * torch.randn(shape, generator=generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, metadata)
    return path
