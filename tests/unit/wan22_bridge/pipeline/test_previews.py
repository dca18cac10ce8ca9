"""Previews: rendering, the factors of each VAE, and the files of a running generation."""

import io
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from diffusers import AutoencoderKLWan
from PIL import Image, ImageSequence
from typer.testing import CliRunner

from serve_app.cli.main import app
from tests.jobs import make_params
from tests.unit.wan22_bridge.conftest import LoadModel
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import ModelCorrupted
from wan22_bridge.models.kernels import use_fast_kernels
from wan22_bridge.models.latent_scale import to_unit_scale
from wan22_bridge.models.sidecars import FACTORS_FILE, PreviewFactors, find_factors
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.previews import render_preview
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.tiny_training.trained import draw_first_frames
from wan22_bridge.tuning.preview_factors import draw_pictures, fit_factors
from wan22_bridge.types import Preview

PARAMS = make_params(steps=6, width=96, height=64, num_frames=9)


def frames_of(webp: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(webp)) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def test_a_preview_has_one_picture_for_each_latent_frame_and_the_videos_duration() -> None:
    latents = torch.zeros(1, 2, 3, 10, 20)
    latents[0, 0, 1] = 1.0
    latents[0, 1, 2] = -1.0
    factors = PreviewFactors(channels=[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], bias=[0.0, 0.0, 0.0])

    webp = render_preview(latents, factors, fps=16)

    gray, red, yellow = frames_of(webp)
    assert gray.shape == (10, 20, 3)
    assert np.abs(gray.astype(int) - 127).max() < 12
    assert red[5, 5, 0] > 240
    assert yellow[5, 5, 2] < 16
    with Image.open(io.BytesIO(webp)) as image:
        image.seek(1)
        image.load()
        assert image.info["duration"] == 250


@pytest.mark.parametrize("z_dim", [16, 48])
def test_published_factors_exist_for_both_vaes(z_dim: int, tmp_path: Path) -> None:
    factors = find_factors(tmp_path, z_dim)

    assert factors is not None
    assert np.shape(factors.channels) == (z_dim, 3)
    assert find_factors(tmp_path, 7) is None


@pytest.mark.parametrize("model_id", ["tiny-i2v", "tiny-ti2v"])
def test_previews_show_the_colors_of_the_encoded_pictures(model_id: str, load: LoadModel) -> None:
    model = load(model_id)
    assert model.preview_factors is not None
    shown, expected = [], []
    for picture_CHW in draw_first_frames(6, seed=99):
        clip_BCTHW = picture_CHW[None, :, None]
        with torch.no_grad():
            latents = to_unit_scale(model.text.vae, model.text.vae.encode(clip_BCTHW).latent_dist.mode())
        [frame] = frames_of(render_preview(latents, model.preview_factors, fps=16))
        small = functional.adaptive_avg_pool2d(picture_CHW, frame.shape[:2]).permute(1, 2, 0)
        shown.append(frame.ravel())
        expected.append(small.numpy().ravel())

    assert np.corrcoef(np.concatenate(shown), np.concatenate(expected))[0, 1] > 0.8


@torch.no_grad()
def test_fitted_factors_recover_the_colors_of_a_linear_vae() -> None:
    class Averaging(torch.nn.Module):
        """A VAE that stores the mean color of 8x8 pixels in two mixed sets of channels."""

        config = SimpleNamespace(z_dim=2 * 3, latents_mean=[0.5] * 6, latents_std=[2.0] * 6)

        def encode(self, clip_BCTHW: torch.Tensor) -> SimpleNamespace:
            z_BCTHW = functional.avg_pool3d(clip_BCTHW[:, :, :1], (1, 8, 8))
            z_BCTHW = torch.cat([z_BCTHW.flip(1), z_BCTHW * 0.5 + 1], dim=1)
            return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: z_BCTHW))

    vae, pictures_BCHW = Averaging(), draw_pictures(8)
    factors = fit_factors(vae, pictures_BCHW)

    latents = to_unit_scale(vae, vae.encode(pictures_BCHW[:, :, None]).latent_dist.mode())
    colors = torch.tensordot(latents, torch.tensor(factors.channels), dims=([1], [0])) + torch.tensor(factors.bias)
    expected = functional.adaptive_avg_pool2d(pictures_BCHW, 12).permute(0, 2, 3, 1)
    torch.testing.assert_close(colors[:, 0], expected, rtol=0, atol=1e-3)


def test_the_estimate_equals_the_samplers_prediction_of_clean_latents(load_exact: LoadModel) -> None:
    model = load_exact("tiny-t2v")
    run = Denoising(model, PARAMS, prepare_conditioning(model, PARAMS, TextCache(), Path()))
    with pytest.raises(ValueError, match="before the first step"):
        run.estimate()
    for _ in run.steps():
        assert torch.allclose(run.estimate(), run._sampler.model_outputs[-1], atol=1e-5)
    assert torch.allclose(run.estimate(), run.latents_BCTHW, atol=0.2)


def test_a_running_generation_writes_a_preview_after_each_step(models_dir: Path, tmp_path: Path) -> None:
    bridge = ModelIntegrationBridge()
    model = bridge.load(load_catalogue()["tiny-i2v"], ensure_tiny_model(models_dir, "i2v"))
    params = replace(PARAMS, model="tiny-i2v", model_type=model.spec.type, image="first.png")
    Image.new("RGB", (96, 64), "red").save(tmp_path / "first.png")
    preview = Preview(path=tmp_path / "job" / "preview.webp", interval_seconds=0)
    seen = []

    for progress in bridge.generate(model, params, tmp_path / "out", inputs=tmp_path, preview=preview):
        if progress.current_step and preview.path.exists():
            seen.append(preview.path.read_bytes())

    assert len(set(seen)) == params.steps
    assert all(len(frames_of(webp)) == 3 for webp in seen)


@pytest.mark.parametrize("content", ["{", "[]", '{"channels": [[1, 2, 3]], "bias": [0, 0, 0]}', '{"bias": 1}'])
def test_unusable_factors_are_rejected(content: str, tmp_path: Path) -> None:
    (tmp_path / FACTORS_FILE).write_text(content)

    with pytest.raises(ModelCorrupted, match="can't be used"):
        find_factors(tmp_path, 16)


def test_the_fit_preview_command_writes_factors_for_the_models_vae(models_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(ensure_tiny_model(models_dir, "t2v"), tmp_path / "model")
    (folder / FACTORS_FILE).unlink()

    result = CliRunner().invoke(app, ["fit-preview", str(folder)])

    assert result.exit_code == 0
    vae = AutoencoderKLWan.from_pretrained(folder / "vae")
    use_fast_kernels(vae)
    assert json.loads((folder / FACTORS_FILE).read_text()) == asdict(fit_factors(vae, draw_pictures()))
    shutil.rmtree(folder / "vae")
    assert CliRunner().invoke(app, ["fit-preview", str(folder)]).exit_code == 2
