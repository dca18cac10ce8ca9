"""The faster kernels compute what diffusers' VAE computes, but for rounding."""

import pytest
import torch

from tests.unit.wan22_bridge.conftest import LoadModel


@pytest.mark.parametrize("model_id", ["tiny-t2v", "tiny-ti2v"])
@torch.no_grad()
def test_encoding_and_decoding_differ_by_rounding_only(model_id: str, load: LoadModel, load_exact: LoadModel) -> None:
    fast, exact = load(model_id).text.vae, load_exact(model_id).text.vae
    generator = torch.Generator().manual_seed(3)
    video_BCTHW = torch.rand(1, 3, 9, 64, 96, generator=generator) * 2 - 1
    latents = exact.encode(video_BCTHW).latent_dist.mode()
    torch.testing.assert_close(fast.encode(video_BCTHW).latent_dist.mode(), latents, rtol=0, atol=1e-4)
    torch.testing.assert_close(fast.decode(latents).sample, exact.decode(latents).sample, rtol=0, atol=1e-4)
