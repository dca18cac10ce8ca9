"""Snapshots: an interrupted generation resumes in another process to the same bits, and unusable files are rejected."""

import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import Field, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.jobs import make_params
from tests.unit.wan22_bridge.conftest import LoadModel
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.errors import SnapshotRejected
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.options import SchedulerName, StepCache
from wan22_bridge.pipeline import snapshots
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.snapshots import Snapshot, fingerprint, read_snapshot, write_snapshot
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.types import Checkpoint, GenerationParams, GenerationResult, LoraUse, ModelType, Progress, Segment

pytestmark = pytest.mark.slow

_STEPS = 6
_KINDS: dict[str, dict[str, Any]] = {
    "text": {"model": "tiny-t2v"},
    "two images": {"model": "tiny-i2v", "model_type": ModelType.I2V, "image": "first.png", "end_image": "last.png"},
    "one expert, image": {
        "model": "tiny-ti2v",
        "model_type": ModelType.TI2V,
        "image": "first.png",
        "guidance_scale_2": None,
    },
}


def _start(
    model: LoadedModel, params: GenerationParams, images: Path, resume_from: Snapshot | None = None
) -> Denoising:
    return Denoising(model, params, prepare_conditioning(model, params, TextCache(), images), resume_from)


@pytest.mark.parametrize("scheduler", ["unipc", "euler", "dpm++"])
@pytest.mark.parametrize("kind", _KINDS)
def test_a_run_resumes_from_any_step_to_the_same_bits(
    kind: str, scheduler: str, load: LoadModel, images: Path, tmp_path: Path
) -> None:
    params = make_params(**_KINDS[kind], steps=_STEPS, scheduler=scheduler, width=96)
    model = load(params.model)
    whole = _start(model, params, images)
    experts = []
    for step in whole.steps():
        experts.append(step.expert)
        write_snapshot(tmp_path / str(whole.steps_done), whole.snapshot(), "this")
    assert len(set(experts)) == (1 if params.guidance_scale_2 is None else 2), "the boundary must be crossed"
    for done in range(1, _STEPS + 1):
        rest = _start(model, params, images, read_snapshot(tmp_path / str(done), "this"))
        assert [step.index for step in rest.steps()] == list(range(done, _STEPS))
        assert torch.equal(rest.latents_BCTHW, whole.latents_BCTHW), f"other bits after resuming from step {done}"


_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from tests.jobs import make_params
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.fetching.downloads import ensure_model
from wan22_bridge.types import Checkpoint

spec = load_catalogue()["tiny-t2v"]
bridge = ModelIntegrationBridge()
model = bridge.load(spec, ensure_model(spec, Path(sys.argv[1])))
run = bridge.generate(
    model, make_params(steps=6), Path(sys.argv[3]), checkpoint=Checkpoint(path=Path(sys.argv[2]), interval_seconds=0)
)
for progress in run:
    print(progress.current_step, flush=True)
    if progress.current_step == 4:
        sys.stdin.read()  # until it is killed
"""


def test_another_process_resumes_a_killed_one_to_the_same_file(
    bridge: ModelIntegrationBridge, load: LoadModel, models_dir: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "snapshot.safetensors"
    command = [sys.executable, "-c", _ANOTHER_PROCESS, str(models_dir), str(snapshot), str(tmp_path / "killed")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "4":
                process.kill()
    assert not (tmp_path / "killed").exists()

    model, params = load("tiny-t2v"), make_params(steps=_STEPS)
    checkpoint = Checkpoint(path=snapshot, interval_seconds=60)
    resumed = _finish(bridge.generate(model, params, tmp_path / "resumed", checkpoint=checkpoint))
    whole = _finish(bridge.generate(model, params, tmp_path / "whole"))
    assert (resumed.resumed_from_step, whole.resumed_from_step) == (4, 0)
    assert resumed.video.read_bytes() == whole.video.read_bytes()


def _finish(run: Generator[Progress, None, GenerationResult]) -> GenerationResult:
    try:
        while True:
            next(run)
    except StopIteration as end:
        result: GenerationResult = end.value
        return result


def test_a_closed_run_writes_a_snapshot(bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path) -> None:
    params, path = make_params(steps=_STEPS), tmp_path / "snapshot.safetensors"
    checkpoint = Checkpoint(path=path, interval_seconds=3600)
    run = bridge.generate(load("tiny-t2v"), params, tmp_path / "out", checkpoint=checkpoint)
    while next(run).current_step < 3:
        assert not path.exists()
    run.close()
    again = bridge.generate(load("tiny-t2v"), params, tmp_path / "out", checkpoint=checkpoint)
    assert _finish(again).resumed_from_step == 3


def test_the_progress_states_the_steps_in_the_last_snapshot(
    bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path
) -> None:
    params, path = make_params(steps=_STEPS), tmp_path / "snapshot.safetensors"
    checkpoint = Checkpoint(path=path, interval_seconds=0)
    run = bridge.generate(load("tiny-t2v"), params, tmp_path / "out", checkpoint=checkpoint)
    while (progress := next(run)).current_step < 3:
        assert progress.saved_steps == progress.current_step
    run.close()

    checkpoint = Checkpoint(path=path, interval_seconds=3600)
    reports = list(bridge.generate(load("tiny-t2v"), params, tmp_path / "out", checkpoint=checkpoint))
    assert [report.saved_steps for report in reports if report.current_step == 4] == [3]
    assert reports[-1].saved_steps == 3

    path.unlink()
    path.mkdir()  # no snapshot can be written here
    checkpoint = Checkpoint(path=path, interval_seconds=0)
    reports = list(bridge.generate(load("tiny-t2v"), params, tmp_path / "other", checkpoint=checkpoint))
    assert {report.saved_steps for report in reports} == {0}


def test_a_run_that_raises_leaves_no_file(bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path) -> None:
    checkpoint = Checkpoint(path=tmp_path / "snapshot.safetensors", interval_seconds=3600)
    run = bridge.generate(load("tiny-t2v"), make_params(steps=_STEPS), tmp_path / "out", checkpoint=checkpoint)
    while next(run).current_step < 3:
        pass
    with pytest.raises(LookupError):
        run.throw(LookupError())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def snapshot(load: LoadModel, tmp_path: Path) -> Path:
    """A valid snapshot after step 1 of 2 of the computation `this`."""
    run = _start(load("tiny-t2v"), make_params(), tmp_path)
    next(run.steps())
    write_snapshot(tmp_path / "snapshot.safetensors", run.snapshot(), "this")
    return tmp_path / "snapshot.safetensors"


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


_DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a snapshot"),
    "a flipped bit": _flip_a_bit,
    "another step": lambda path: path.write_bytes(path.read_bytes().replace(b'"steps_done":"1"', b'"steps_done":"2"')),
    "other tensors": lambda path: save_file({"a": torch.zeros(2)}, path),
}


@pytest.mark.parametrize("damage", _DAMAGE)
def test_a_damaged_snapshot_is_rejected_and_the_generation_starts_over(
    damage: str, snapshot: Path, bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path
) -> None:
    assert read_snapshot(snapshot, "this").steps_done == 1
    _DAMAGE[damage](snapshot)
    with pytest.raises(SnapshotRejected):
        read_snapshot(snapshot, "this")
    checkpoint = Checkpoint(path=snapshot, interval_seconds=60)
    result = _finish(bridge.generate(load("tiny-t2v"), make_params(), tmp_path / "out", checkpoint=checkpoint))
    assert result.resumed_from_step == 0


def test_a_snapshot_of_another_computation_is_rejected(snapshot: Path, load: LoadModel) -> None:
    weights, params = load("tiny-t2v").weights, make_params()
    this = fingerprint(weights, params)
    others = [
        fingerprint(load("tiny-i2v").weights, params),
        *(fingerprint(weights, replace(params, **change)) for change in ({"seed": 8}, {"steps": 3}, {"prompt": "b"})),
    ]
    assert len({this, *others}) == 5
    assert this == fingerprint(weights, make_params())
    with pytest.raises(SnapshotRejected, match="another request"):
        read_snapshot(snapshot, this)


def _with_added_field(params: GenerationParams, value: float) -> GenerationParams:
    """Returns the parameters as a later version would have them that adds the field `sharpness` with a default."""
    later: type[GenerationParams] = make_dataclass(
        "LaterParams",
        [("sharpness", float, field(default=0.0))],
        bases=(GenerationParams,),
        frozen=True,
        kw_only=True,
        slots=True,
    )
    return later.from_dict(params.to_dict() | {"sharpness": value})


def test_a_field_that_an_upgrade_adds_with_a_default_keeps_the_fingerprint() -> None:
    params = make_params(loras=[{"name": "style"}])
    assert fingerprint("w", _with_added_field(params, 0.0)) == fingerprint("w", params)
    assert fingerprint("w", _with_added_field(params, 0.5)) != fingerprint("w", params)


@pytest.mark.parametrize("item", fields(GenerationParams), ids=lambda item: item.name)
def test_every_parameter_is_in_the_fingerprint(item: Field[Any]) -> None:
    params = make_params()
    other: dict[str, Any] = {
        "model_type": ModelType.I2V,
        "scheduler": SchedulerName.EULER,
        "step_cache": StepCache.PAB,
        "loras": (LoraUse(name="style", low_noise_strength=0.5),),
        "segments": (Segment(prompt="a cat", num_frames=5, seed=1),),
        "is_mock": True,
        "stored_defaults": ("vae_tile_size",),
    }
    value = getattr(params, item.name)
    if item.name in other:
        changed = other[item.name]
    else:
        changed = "other" if value is None or isinstance(value, str) else value + 1
    assert fingerprint("w", replace(params, **{item.name: changed})) != fingerprint("w", params)


def test_a_changed_default_needs_a_new_version_of_the_fingerprint() -> None:
    """Fields that equal their defaults are not hashed: with another default, the same hash would mean another video."""
    assert snapshots._FINGERPRINT == "wan22-fingerprint-1"
    defaults = {item.name: item.default for item in fields(GenerationParams)}
    assert defaults["scheduler"] is SchedulerName.UNIPC
    assert defaults["step_cache"] is StepCache.NONE
    assert (defaults["strength"], defaults["loras"]) == (1.0, ())
    assert LoraUse(name="style") == LoraUse(name="style", high_noise_strength=1.0, low_noise_strength=1.0)


def test_a_full_disk_leaves_the_previous_snapshot_and_the_generation_continues(
    snapshot: Path,
    bridge: ModelIntegrationBridge,
    load: LoadModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = snapshot.read_bytes()

    def fill(_tensors: object, path: Path, _metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wan22_bridge.pipeline.snapshots.save_file", fill)
    checkpoint = Checkpoint(path=snapshot, interval_seconds=0)
    _finish(bridge.generate(load("tiny-t2v"), make_params(), tmp_path / "out", checkpoint=checkpoint))
    assert snapshot.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "snapshot.safetensors"]
    assert "snapshot_failed" in [getattr(record, "action", "") for record in caplog.records]


def test_a_snapshot_states_its_format_step_and_expert(snapshot: Path) -> None:
    with safe_open(snapshot, framework="pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["steps_done"], metadata["expert"]) == ("wan22-snapshot-1", "1", "high_noise")
