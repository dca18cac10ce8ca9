"""Tests of the faster CPU kernels: results equal those of diffusers' VAE except for rounding."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan

from tests.unit.wan22_bridge.conftest import LoadModel
from wan22_bridge.builtin import ensure_tiny_model


@pytest.mark.parametrize("model_id", ["tiny-t2v", "tiny-ti2v"])
@torch.no_grad()
def test_fast_kernels_differ_from_diffusers_by_rounding_only(
    model_id: str, load: LoadModel, load_exact: LoadModel
) -> None:
    fast, exact = load(model_id).text.vae, load_exact(model_id).text.vae
    generator = torch.Generator().manual_seed(3)
    video_BCTHW = torch.rand(1, 3, 9, 64, 96, generator=generator) * 2 - 1
    latents = exact.encode(video_BCTHW).latent_dist.mode()
    torch.testing.assert_close(fast.encode(video_BCTHW).latent_dist.mode(), latents, rtol=0, atol=1e-4)
    assert not torch.equal(fast.decode(latents).sample, exact.decode(latents).sample), "the fast kernels are not in use"
    torch.testing.assert_close(fast.decode(latents).sample, exact.decode(latents).sample, rtol=0, atol=1e-4)


@torch.no_grad()
def test_exact_model_decodes_to_the_same_bits_as_diffusers(load_exact: LoadModel, models_dir: Path) -> None:
    plain = AutoencoderKLWan.from_pretrained(ensure_tiny_model(models_dir, "t2v") / "vae")
    latents = torch.randn(1, plain.config.z_dim, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_exact("tiny-t2v").text.vae.decode(latents).sample, plain.decode(latents).sample)
