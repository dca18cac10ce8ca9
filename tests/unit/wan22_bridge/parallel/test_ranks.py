"""Multi-GPU groups, on CPU processes: equal results, and recovery after a rank is lost."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.jobs import make_params
from tests.loras import WIDTH, write_lora
from tests.service import wait_until
from tests.unit.wan22_bridge.conftest import LoadModel
from tests.unit.wan22_bridge.likeness import psnr
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import ConfigurationError, GenerationFailed, InvalidRequest, RankLost
from wan22_bridge.fetching.downloads import ensure_model
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.loras import LoraRack, unload_loras
from wan22_bridge.options import StepCache
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.snapshots import Snapshot
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import Offload, PlanConstraints, Residence
from wan22_bridge.types import GenerationParams, GenerationResult, LoraUse, ModelType, Progress

pytestmark = pytest.mark.slow

ROUNDING_DB = 100
"""Minimum likeness of two ranks to one process. A CPU's kernels may sum fewer tokens in another order."""
PARAMS = make_params(steps=6, width=96, height=64)
I2V: dict[str, Any] = {"model": "tiny-i2v", "model_type": ModelType.I2V}
TI2V: dict[str, Any] = {"model": "tiny-ti2v", "model_type": ModelType.TI2V, "guidance_scale_2": None}

LoadTogether = Callable[..., LoadedModel]


@pytest.fixture(scope="module")
def load_together(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadTogether]:
    """Loads a built-in model that two processes denoise together, each plan once."""
    catalogue, scratch = load_catalogue(), tmp_path_factory.mktemp("scratch")
    loaded = []

    @cache
    def load_once(model_id: str, **changes: Any) -> LoadedModel:
        plan = replace(base_plan("cpu"), parallel_degree=2, **changes)
        folder = ensure_model(catalogue[model_id], models_dir)
        loaded.append(LoadedModel(catalogue[model_id], folder, plan, exact=True, scratch=scratch))
        return loaded[-1]

    yield load_once
    for model in loaded:
        model.close()


def start(
    model: LoadedModel, params: GenerationParams, inputs: Path = Path(), resume_from: Snapshot | None = None
) -> Denoising:
    conditioning = prepare_conditioning(model, params, TextCache(), inputs)
    return Denoising(model, params, conditioning, resume_from, LoraRack(inputs, params.loras))


def denoise(*given: Any) -> torch.Tensor:
    run = start(*given)
    for _ in run.steps():
        pass
    return run.latents_BCTHW


def followers() -> list[psutil.Process]:
    """Returns the follower processes of this process."""
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "wan22_bridge.follower" in child.cmdline()]


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 6},
        {"steps": 6, "guidance_scale": 1.0, "guidance_scale_2": 1.0},
        {"steps": 6, "width": 80, "height": 48, "num_frames": 9},  # 45 tokens: parts of unequal length
        {"steps": 2, "width": 16, "height": 16, "num_frames": 1},  # One token: the second rank has none.
        {"steps": 12, "step_cache": StepCache.FIRST_BLOCK},
        {"steps": 12, "step_cache": StepCache.TAYLORSEER},
        {"steps": 12, "step_cache": StepCache.PAB},
        {"steps": 4, "image": "first.png", **TI2V},
        {"steps": 4, "width": 160, "height": 96, **TI2V},  # 15 tokens per frame
        {"steps": 4, "image": "first.png", "end_image": "last.png", **I2V},
    ],
    ids=lambda changes: " ".join(f"{key}={value}" for key, value in changes.items() if key != "model_type"),
)
def test_two_ranks_generate_what_one_process_generates(
    changes: dict[str, Any], load_together: LoadTogether, load_exact: LoadModel, images: Path
) -> None:
    params = make_params(**{"width": 96, "height": 64} | changes)

    together = denoise(load_together(params.model), params, images)

    assert len(followers()) == 1
    assert psnr(together, denoise(load_exact(params.model), params, images)) > ROUNDING_DB


def test_a_run_resumes_from_a_snapshot_to_the_same_bits(load_together: LoadTogether, load_exact: LoadModel) -> None:
    model = load_together("tiny-t2v")
    whole = start(model, PARAMS)
    snapshots = [deepcopy(whole.snapshot()) for _ in whole.steps()]

    for snapshot in snapshots[:-1]:
        assert torch.equal(denoise(model, PARAMS, Path(), snapshot), whole.latents_BCTHW)
    assert model.weights == f"{load_exact('tiny-t2v').weights} over 2", (
        "a snapshot of one process must not fit two ranks"
    )


def test_a_stopped_run_does_not_change_the_next(load_together: LoadTogether) -> None:
    model = load_together("tiny-t2v")
    expected, before = denoise(model, PARAMS), followers()
    stopped = start(model, PARAMS).steps()
    next(stopped)
    stopped.close()

    assert torch.equal(denoise(model, PARAMS), expected)
    assert followers() == before


def write_lora_on_the_last_layer(path: Path) -> Path:
    weights = load_file(write_lora(path))
    generator = torch.Generator().manual_seed(9)
    for part, shape in (("A", (4, WIDTH)), ("B", (48, 4))):
        weights[f"transformer.proj_out.lora_{part}.weight"] = 0.3 * torch.randn(shape, generator=generator)
    save_file(weights, path)
    return path


@pytest.mark.parametrize("write", [write_lora, write_lora_on_the_last_layer])
def test_a_lora_is_applied_on_all_ranks_and_removed_again(
    write: Callable[[Path], Path], load_together: LoadTogether, load_exact: LoadModel, tmp_path: Path
) -> None:
    model, alone = load_together("tiny-t2v"), load_exact("tiny-t2v")
    write(tmp_path / "style.safetensors")
    styled = replace(PARAMS, loras=(LoraUse(name="style", high_noise_strength=1.0, low_noise_strength=0.5),))

    found, plain = denoise(model, styled, tmp_path), denoise(model, PARAMS)

    expected = denoise(alone, styled, tmp_path)
    for expert in (alone.text.transformer, alone.text.transformer_2):
        unload_loras(expert)
    assert psnr(found, expected) > ROUNDING_DB
    assert psnr(plain, denoise(alone, PARAMS)) > ROUNDING_DB
    assert psnr(found, plain) < 40


def test_an_error_that_all_ranks_meet_ends_no_rank(load_together: LoadTogether, tmp_path: Path) -> None:
    model = load_together("tiny-t2v")
    expected, before = denoise(model, PARAMS), followers()
    write_lora(tmp_path / "wide.safetensors", width=128)

    with pytest.raises(InvalidRequest, match="of another size"):
        denoise(model, replace(PARAMS, loras=(LoraUse(name="wide"),)), tmp_path)
    with pytest.raises(GenerationFailed, match="NaN or infinite"):
        denoise(model, replace(PARAMS, guidance_scale=math.inf))

    assert torch.equal(denoise(model, PARAMS), expected)
    assert followers() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"experts": Residence.ON_DEMAND, "offload": Offload.DISK},
        {"experts": Residence.STREAMED, "offload": Offload.DISK},
        {"experts": Residence.SEQUENTIAL, "offload": Offload.DISK},
        {"batched_guidance": True},
    ],
    ids=str,
)
def test_two_ranks_work_with_every_other_optimization(
    changes: dict[str, Any], load_together: LoadTogether, load_exact: LoadModel, tmp_path: Path
) -> None:
    write_lora(tmp_path / "style.safetensors")
    styled = replace(PARAMS, loras=(LoraUse(name="style"),))
    model, alone = load_together("tiny-t2v", **changes), load_exact("tiny-t2v")

    assert psnr(denoise(model, PARAMS), denoise(alone, PARAMS)) > 90
    found, expected = denoise(model, styled, tmp_path), denoise(alone, styled, tmp_path)
    for expert in (alone.text.transformer, alone.text.transformer_2):
        unload_loras(expert)
    assert psnr(found, expected) > 90


@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # torch's compiler causes this warning
def test_two_ranks_work_with_compiled_blocks(load_together: LoadTogether, load_exact: LoadModel) -> None:
    together = denoise(load_together("tiny-t2v", compiled=True), PARAMS)

    assert psnr(together, denoise(load_exact("tiny-t2v"), PARAMS)) > 90


def test_an_attention_backend_without_multi_gpu_support_is_rejected(load_together: LoadTogether) -> None:
    with pytest.raises(ConfigurationError, match="'_native_math' cannot run on several GPUs") as caught:
        load_together("tiny-t2v", attention_backend="_native_math")
    assert "native" in caught.value.suggestions[0]
    assert followers() == []


@pytest.fixture
def bridge(tmp_path: Path) -> ModelIntegrationBridge:
    return ModelIntegrationBridge(constraints=PlanConstraints(parallel_degree=2), scratch=tmp_path / "scratch")


@pytest.fixture
def model(bridge: ModelIntegrationBridge, models_dir: Path) -> Iterator[LoadedModel]:
    spec = load_catalogue()["tiny-t2v"]
    loaded = bridge.load(spec, ensure_model(spec, models_dir))
    yield loaded
    loaded.close()
    assert followers() == []


def finish(run: Generator[Progress, None, GenerationResult]) -> GenerationResult:
    while True:
        try:
            next(run)
        except StopIteration as end:
            result: GenerationResult = end.value
            return result


def step_with(run: Generator[Progress, None, GenerationResult], index: int) -> None:
    while next(run).current_step < index:
        pass


def kill_in_the_middle_of_a_pass() -> "subprocess.Popen[bytes]":
    [follower] = followers()
    follower.send_signal(signal.SIGSTOP)  # The leader then waits for the next step in the middle of a pass.
    return subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -KILL {follower.pid}"])


def test_a_generation_resumes_with_a_new_process_after_a_kill_to_the_same_bits(
    bridge: ModelIntegrationBridge, model: LoadedModel, tmp_path: Path
) -> None:
    expected = finish(bridge.generate(model, PARAMS, tmp_path / "expected"))
    assert expected.optimizations_applied == ["context parallel over 2"]
    run = bridge.generate(model, PARAMS, tmp_path / "out")
    step_with(run, 2)
    killing = kill_in_the_middle_of_a_pass()

    assert next(run).current_step == 2, "the generation must resume from the step that it had reached"
    resumed = finish(run)

    killing.wait()
    assert resumed.video.read_bytes() == expected.video.read_bytes()


def test_a_generation_fails_after_three_lost_ranks_and_the_next_works(
    bridge: ModelIntegrationBridge, model: LoadedModel, tmp_path: Path
) -> None:
    run = bridge.generate(model, PARAMS, tmp_path / "out")
    step_with(run, 2)
    for _ in range(2):
        killing = kill_in_the_middle_of_a_pass()
        next(run)
        killing.wait()
        next(run)
    killing = kill_in_the_middle_of_a_pass()

    with pytest.raises(RankLost, match="the process of rank 1 was ended by SIGKILL") as caught:
        finish(run)

    killing.wait()
    assert (caught.value.code, caught.value.can_retry) == ("rank_lost", True)
    assert list(tmp_path.iterdir()) == []
    assert finish(bridge.generate(model, PARAMS, tmp_path / "out")).video.exists()


def test_a_follower_that_died_between_generations_is_replaced(
    bridge: ModelIntegrationBridge, model: LoadedModel, tmp_path: Path
) -> None:
    [follower] = followers()
    follower.kill()
    wait_until(lambda: followers() == [])

    assert finish(bridge.generate(model, PARAMS, tmp_path / "out")).video.exists()
    assert len(followers()) == 1


def test_a_hanging_follower_is_replaced_after_the_time_limit(
    bridge: ModelIntegrationBridge, model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bridge.generate(model, PARAMS, tmp_path / "out")
    step_with(run, 2)
    monkeypatch.setattr("wan22_bridge.parallel.leader.STEP_SECONDS", 5.0)
    [follower] = followers()
    follower.suspend()

    assert finish(run).video.exists()

    [new] = followers()
    assert new.pid != follower.pid


def test_a_follower_out_of_memory_moves_all_ranks_to_the_next_rung(
    bridge: ModelIntegrationBridge, model: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = bridge.generate(model, make_params(steps=6, width=320, height=320, num_frames=17), tmp_path / "out")
    step_with(run, 2)
    [follower] = followers()
    used = follower.memory_info().vms
    follower.rlimit(psutil.RLIMIT_AS, (used, used))

    result = finish(run)

    assert "out_of_memory" in [getattr(record, "action", "") for record in caplog.records]
    assert result.resumed_from_step == 0
    assert len(result.optimizations_applied) == 2
    assert "context parallel over 2" in result.optimizations_applied
    assert followers() != [follower]


_LEADER = """
import sys
from dataclasses import replace
from pathlib import Path
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.fetching.downloads import ensure_model
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.planning.rungs import base_plan

spec = load_catalogue()["tiny-t2v"]
plan = replace(base_plan("cpu"), parallel_degree=int(sys.argv[2]))
model = LoadedModel(spec, ensure_model(spec, Path(sys.argv[1])), plan)
print("loaded", flush=True)
sys.stdin.read()
"""


def test_a_group_with_a_stopped_follower_closes_without_waiting(load_together: LoadTogether) -> None:
    model = load_together("tiny-t2v")
    if not followers():  # Another model's group has taken over.
        denoise(model, PARAMS)
    for follower in followers():
        follower.suspend()
    started = time.monotonic()

    model.close()

    assert time.monotonic() - started < 10
    assert not torch.distributed.is_initialized()
    assert followers() == []


def test_no_follower_survives_a_killed_leader(models_dir: Path) -> None:
    command = [sys.executable, "-c", _LEADER, str(models_dir), "4"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == "loaded\n"
        children = psutil.Process(leader.pid).children()
        assert len(children) == 3
        os.kill(leader.pid, signal.SIGKILL)

    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
