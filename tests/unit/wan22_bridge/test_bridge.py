"""Generation through the bridge: files, progress, cancellation, errors."""

import json
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from diffusers import WanTransformer3DModel
from PIL import Image

from tests.jobs import make_params
from tests.unit.wan22_bridge.conftest import LoadModel
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import GenerationFailed, ModelCorrupted, OutOfMemory, StorageFailed
from wan22_bridge.fetching.downloads import ensure_model
from wan22_bridge.media.writer import read_video_info
from wan22_bridge.types import GenerationResult, Progress, Stage

pytestmark = pytest.mark.slow


def _finish(run: Generator[Progress, None, GenerationResult]) -> tuple[list[Progress], GenerationResult]:
    reports = []
    try:
        while True:
            reports.append(next(run))
    except StopIteration as end:
        return reports, end.value


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def test_generation_writes_three_files_and_reports_progress(
    bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path
) -> None:
    params = make_params(num_frames=9, fps=10)
    reports, result = _finish(bridge.generate(load("tiny-t2v"), params, tmp_path / "out"))
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "last_frame.png",
        "thumbnail.webp",
        "video.mp4",
    ]
    info = read_video_info(result.video)
    assert (info.num_frames, info.fps, info.width, info.height) == (9, 10.0, 64, 64)
    assert info.parameters == params.to_dict()
    assert _read(result.last_frame).size == (64, 64)
    percents = [progress.percent for progress in reports]
    assert percents == sorted(percents)
    stages = list(dict.fromkeys(progress.stage for progress in reports))
    assert stages == [Stage.PREPARING_INPUTS, Stage.GENERATING, Stage.POST_PROCESSING, Stage.SAVING]
    assert list(result.timings) == [stage.value for stage in stages]
    assert result.file_size_bytes == result.video.stat().st_size
    assert (result.peak_vram_usage_mb, result.average_vram_usage_mb) == (0.0, 0.0)


def test_equal_seeds_give_equal_videos_and_other_seeds_other_videos(
    bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path
) -> None:
    model = load("tiny-t2v")
    contents = []
    for index, seed in enumerate((1, 1, 2)):
        _, result = _finish(bridge.generate(model, make_params(seed=seed), tmp_path / str(index)))
        contents.append(_read(result.last_frame).tobytes())
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


@pytest.mark.parametrize("stage", [Stage.PREPARING_INPUTS, Stage.GENERATING, Stage.POST_PROCESSING, Stage.SAVING])
def test_closing_the_generation_at_any_stage_leaves_no_files(
    stage: Stage, bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path
) -> None:
    run = bridge.generate(load("tiny-t2v"), make_params(num_frames=9), tmp_path / "out")
    while next(run).stage is not stage:
        pass
    run.close()
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_killed_attempt_are_overwritten(
    bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path
) -> None:
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / "rubbish").touch()
    _finish(bridge.generate(load("tiny-t2v"), make_params(), tmp_path / "out"))
    assert not (tmp_path / "out" / "rubbish").exists()


def test_out_of_memory_on_every_rung_fails_with_suggestions(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge, spec = ModelIntegrationBridge(scratch=tmp_path / "scratch"), load_catalogue()["tiny-t2v"]
    model = bridge.load(spec, ensure_tiny_model(models_dir, "t2v"))

    forward = WanTransformer3DModel.forward

    def allocate(self: WanTransformer3DModel, hidden_states: torch.Tensor, **given: object) -> object:
        if hidden_states.is_meta:  # The planner traces with meta tensors.
            return forward(self, hidden_states, **given)
        raise torch.OutOfMemoryError

    monkeypatch.setattr(WanTransformer3DModel, "forward", allocate)
    with pytest.raises(OutOfMemory, match="64x64 and 5 frames, with fp8 weights") as caught:
        _finish(bridge.generate(model, make_params(), tmp_path / "out"))
    assert "resolution" in caught.value.suggestions[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("expert", ["transformer", "transformer_2"])
def test_non_finite_latents_fail_at_their_step_and_name_the_expert(
    expert: str, bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("tiny-t2v")
    broken = getattr(model.text, expert)
    monkeypatch.setitem(vars(broken), "forward", lambda hidden_states, **_: (hidden_states * float("nan"),))
    step, name = {"transformer": (1, "high-noise"), "transformer_2": (5, "low-noise")}[expert]
    with pytest.raises(GenerationFailed, match=f"NaN or infinite at step {step} of 6, in the {name} expert"):
        _finish(bridge.generate(model, make_params(steps=6), tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_non_finite_frames_fail_without_a_video(
    bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("tiny-t2v")
    with torch.no_grad():
        monkeypatch.setattr(model.text.vae.decoder.conv_out.bias, "data", torch.full((3,), float("nan")))
    with pytest.raises(GenerationFailed, match="latent frame 1 to NaN"):
        _finish(bridge.generate(model, make_params(), tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("color", [-2.0, 0.0])
def test_a_video_of_a_single_color_fails(
    color: float, bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("tiny-t2v")
    last = model.text.vae.decoder.conv_out
    monkeypatch.setattr(last.weight, "data", torch.zeros_like(last.weight))
    monkeypatch.setattr(last.bias, "data", torch.full_like(last.bias, color))
    with pytest.raises(GenerationFailed, match="a single color") as caught:
        _finish(bridge.generate(model, make_params(), tmp_path / "out"))
    assert caught.value.code == "constant_frames"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_model_type_is_rejected(bridge: ModelIntegrationBridge, models_dir: Path) -> None:
    folder = ensure_tiny_model(models_dir, "ti2v")
    with pytest.raises(
        ModelCorrupted, match=r"1 experts with 24 input channels\. Expected for T2V-A14B: 2 experts with 24 input"
    ):
        bridge.load(load_catalogue()["tiny-t2v"], folder)


@pytest.mark.parametrize("damage", ["missing", "torn", "garbage"])
@pytest.mark.parametrize("component", ["vae", "text_encoder", "transformer"])
def test_a_folder_with_damaged_weights_is_rejected(
    damage: str, component: str, bridge: ModelIntegrationBridge, models_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(ensure_tiny_model(models_dir, "ti2v"), tmp_path / "model")
    [weights] = (folder / component).glob("*.safetensors")
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-1000] if damage == "torn" else b"garbage" * 100)
    with pytest.raises(ModelCorrupted, match="can't be loaded"):
        bridge.load(load_catalogue()["tiny-ti2v"], folder)


def _change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _delete_a_shard(folder: Path) -> None:
    transformer = WanTransformer3DModel.from_pretrained(folder / "transformer")
    shutil.rmtree(folder / "transformer")
    transformer.save_pretrained(folder / "transformer", max_shard_size="300KB")
    next((folder / "transformer").glob("*-00002-of-*.safetensors")).unlink()


_WRONG_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "model_index.json"),
    "an index cut off": (lambda folder: (folder / "model_index.json").write_text("{"), "not valid JSON"),
    "a class that does not exist": (
        lambda folder: _change_json(folder / "model_index.json", transformer=["diffusers", "WanTransformer9DModel"]),
        "WanTransformer9DModel",
    ),
    "a class that does not fit": (
        lambda folder: _change_json(folder / "model_index.json", vae=["diffusers", "AutoencoderKL"]),
        "'AutoencoderKL'\\] as vae. Expected is AutoencoderKLWan",
    ),
    "an unknown scheduler": (
        lambda folder: _change_json(folder / "model_index.json", scheduler=["diffusers", "FooScheduler"]),
        "FooScheduler",
    ),
    "a missing shard": (_delete_a_shard, "00002-of"),
    "more layers than weights": (
        lambda folder: _change_json(folder / "transformer" / "config.json", num_layers=9),
        "meta tensor",
    ),
}


@pytest.mark.parametrize("wrong", _WRONG_FOLDERS)
def test_a_wrong_folder_is_rejected_with_the_reason_but_without_its_path(
    wrong: str, bridge: ModelIntegrationBridge, models_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(ensure_tiny_model(models_dir, "ti2v"), tmp_path / "model")
    spoil, reason = _WRONG_FOLDERS[wrong]
    spoil(folder)
    with pytest.raises(ModelCorrupted, match=reason) as caught:
        bridge.load(load_catalogue()["tiny-ti2v"], folder)
    assert str(tmp_path) not in caught.value.message


def test_a_tokenizer_without_its_vocabulary_is_rejected(
    bridge: ModelIntegrationBridge, models_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(ensure_tiny_model(models_dir, "ti2v"), tmp_path / "model")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ModelCorrupted, match="no vocabulary"):
        bridge.load(load_catalogue()["tiny-ti2v"], folder)


def test_an_unwritable_folder_fails_with_storage_failed(
    bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="could not be written: Not a directory"):
        _finish(bridge.generate(load("tiny-t2v"), make_params(), tmp_path / "file" / "out"))


def test_closing_a_model_frees_its_memory(bridge: ModelIntegrationBridge, models_dir: Path) -> None:
    """Loads two models in turn, as a replica does that switches between them."""
    specs = [load_catalogue()[name] for name in ("tiny-t2v", "tiny-ti2v")]
    process, rss = psutil.Process(), list[int]()
    for change in range(12):
        spec = specs[change % 2]
        model = bridge.load(spec, ensure_model(spec, models_dir))
        for weight in model.text.transformer.parameters():
            weight.detach().sum()  # Reads all weights into memory.
        model.close()
        rss.append(process.memory_info().rss)
    assert rss[-1] <= 1.05 * rss[1]
