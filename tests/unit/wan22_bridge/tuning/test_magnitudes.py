"""MagCache's calibration, its ratios on the disk, and the steps that it skips."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import MagCacheConfig
from PIL import Image
from typer.testing import CliRunner

from serve_app.cli.main import app
from tests.jobs import make_params
from tests.unit.wan22_bridge.conftest import LoadModel
from tests.unit.wan22_bridge.likeness import denoise
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import InvalidRequest, ModelCorrupted
from wan22_bridge.experts import Expert
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.sidecars import RATIOS_FILE, find_ratios, write_ratios
from wan22_bridge.options import StepCache
from wan22_bridge.pipeline.conditioning import Conditioning, prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.tuning.calibrating import calibrate

pytestmark = pytest.mark.slow

PARAMS = make_params(steps=16, width=96, height=64)
CACHED = replace(PARAMS, step_cache=StepCache.MAGCACHE)


def test_calibration_measures_a_ratio_for_each_step_and_does_not_change_the_model(
    load_exact: LoadModel, tmp_path: Path
) -> None:
    model = load_exact("tiny-t2v")
    before = denoise(model, PARAMS)
    experts = [step.expert for step in Denoising(model, PARAMS, prepare(model)).steps()]

    ratios = calibrate(model, PARAMS, tmp_path)

    assert [len(ratios[name]) for name in ("transformer", "transformer_2")] == [
        experts.count(Expert.HIGH_NOISE),
        experts.count(Expert.LOW_NOISE),
    ]
    assert all(values[0] == 1.0 and all(0 < value < 10 for value in values) for values in ratios.values())
    assert torch.equal(denoise(model, PARAMS), before)


def prepare(model: LoadedModel) -> Conditioning:
    return prepare_conditioning(model, PARAMS, TextCache(), Path())


def test_steps_with_even_magnitudes_are_skipped_and_others_are_not(
    load_exact: LoadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls = load_exact("tiny-t2v"), [0]

    def count(*_: object) -> None:
        calls[0] += 1

    def calls_with(ratio: float) -> int:
        calls[0] = 0
        monkeypatch.setattr(model, "mag_ratios", {name: [ratio] * 8 for name in ("transformer", "transformer_2")})
        denoise(model, CACHED)
        return calls[0]

    hook = model.text.transformer.blocks[1].ffn.register_forward_hook(count)
    try:
        denoise(model, PARAMS)
        full = calls[0]
        assert calls_with(1.3) == full
        assert calls_with(1.0) <= full // 2
    finally:
        hook.remove()


def test_a_resumed_run_uses_the_ratios_of_its_remaining_steps(
    load_exact: LoadModel,
) -> None:
    model = load_exact("tiny-t2v")
    whole = Denoising(model, CACHED, prepare(model))
    steps = whole.steps()
    for _ in range(5):
        next(steps)
    snapshot = whole.snapshot()
    steps.close()

    rest = Denoising(model, CACHED, prepare(model), snapshot)
    described = rest._expert_run(Expert.HIGH_NOISE)
    remaining = rest.steps()
    next(remaining)
    config = model.text.transformer._cache_config
    remaining.close()

    whole_run = MagCacheConfig(mag_ratios=list(described.mag_ratios or ()), num_inference_steps=described.total)
    assert described.done == 5
    assert config.num_inference_steps == described.total - 5
    assert torch.equal(config.mag_ratios, whole_run.mag_ratios[5:])


def test_magcache_on_an_uncalibrated_model_is_rejected(models_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(ensure_tiny_model(models_dir, "t2v"), tmp_path / "model")
    (folder / RATIOS_FILE).unlink()
    model = LoadedModel(load_catalogue()["tiny-t2v"], folder, base_plan("cpu"), exact=True)

    with pytest.raises(InvalidRequest, match="has not been calibrated") as raised:
        denoise(model, CACHED)
    assert raised.value.code == "mag_ratios_missing"
    assert not model.text.transformer.is_cache_enabled


@pytest.mark.parametrize("content", ["{", "[]", '{"transformer": []}', '{"transformer": 1}', '{"transformer": ["a"]}'])
def test_unreadable_ratios_are_rejected(content: str, tmp_path: Path) -> None:
    (tmp_path / RATIOS_FILE).write_text(content)

    with pytest.raises(ModelCorrupted, match="can't be used"):
        find_ratios(tmp_path)


def test_ratios_survive_a_round_trip_to_the_disk(tmp_path: Path) -> None:
    assert find_ratios(tmp_path) is None
    write_ratios(tmp_path, {"transformer": [1.0, 1.02]})
    assert find_ratios(tmp_path) == {"transformer": [1.0, 1.02]}


def test_the_calibrate_command_writes_the_ratios_into_the_models_folder(models_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(ensure_tiny_model(models_dir, "i2v"), tmp_path / "model")
    (folder / RATIOS_FILE).unlink()
    Image.new("RGB", (96, 64), "red").save(tmp_path / "first.png")
    command = ["calibrate", str(folder), "--model", "tiny-i2v", "--size", "64x64", "--frames", "5", "--steps", "6"]

    without_image = CliRunner().invoke(app, command)
    result = CliRunner().invoke(app, [*command, "--image", str(tmp_path / "first.png")])

    assert without_image.exit_code == 2
    assert result.exit_code == 0, result.output
    ratios = json.loads((folder / RATIOS_FILE).read_text())
    assert sum(map(len, ratios.values())) == 6
    assert CliRunner().invoke(app, ["calibrate", str(folder), "--model", "none"]).exit_code == 2


def test_the_calibrate_command_reports_where_it_cannot_write(models_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(ensure_tiny_model(models_dir, "t2v"), tmp_path / "model")
    (folder / RATIOS_FILE).unlink()
    (folder / RATIOS_FILE).mkdir()
    command = ["calibrate", str(folder), "--model", "tiny-t2v", "--size", "64x64", "--frames", "5", "--steps", "6"]

    result = CliRunner().invoke(app, command)

    assert result.exit_code == 1
    assert "Is a directory" in result.stderr
