"""The simulator: traces, replays with known outcomes, and the scheduler's targets on the standard traces."""

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from deployments.jobs.store import JobStore
from deployments.scheduling.policy import Ledger, Policy
from deployments.scheduling.queue import Queue
from deployments.simulation.baselines import FirstComeFirstServed, replay_uncoordinated
from deployments.simulation.figures import fair_waits, measure
from deployments.simulation.history import read_store
from deployments.simulation.replay import replay
from deployments.simulation.traces import (
    STANDARD,
    ModelTimes,
    Run,
    TraceJob,
    load_times,
    lower_bound,
    make_trace,
    read_trace,
)
from serve_app.cli.main import app
from tests.jobs import make_job
from tests.unit.conftest import Clock
from wan22_bridge.errors import InvalidRequest

TIMES = {
    name: ModelTimes(type=name[0], run_seconds=100, load_seconds=30, swap_seconds=10, lora_seconds=1)
    for name in ("a-bf16", "a-fp8", "b-bf16")
}
GPUS = 8


def job(at: float, model: str = "a-bf16", owner: str = "") -> TraceJob:
    return TraceJob(at=at, model=model, run_seconds=100, owner=owner)


def schedule(jobs: list[TraceJob], gpus: int = 1) -> list[Run]:
    return replay(jobs, gpus, TIMES, Queue(Policy(), Ledger()))


def test_a_job_begins_when_its_model_is_loaded() -> None:
    runs = schedule([job(0), job(0, "b-bf16"), job(0), job(0, "a-fp8")])
    assert [(run.number, run.claimed_at, run.began_at, run.ended_at) for run in runs] == [
        (0, 0, 30, 130),
        (2, 130, 130, 230),
        (3, 230, 240, 340),
        (1, 340, 370, 470),
    ]


def test_the_figures_of_a_small_replay() -> None:
    jobs = [job(0), job(0, "b-bf16")]
    found = measure(jobs, 1, schedule(jobs))
    assert (found.makespan, found.bound, found.swaps) == (260, 200, 2)
    assert found.utilisation == pytest.approx(200 / 260)
    assert (found.wait_median, found.wait_p95) == ((30 + 160) / 2, 160)


def test_first_come_first_served_loads_a_model_for_every_change_of_type() -> None:
    jobs = [job(index, ("a-bf16", "b-bf16")[index % 2]) for index in range(6)]
    runs = replay(jobs, 1, TIMES, FirstComeFirstServed())
    assert [run.number for run in runs] == list(range(6))
    assert measure(jobs, 1, runs).swaps == 6
    assert measure(jobs, 1, schedule(jobs)).swaps == 2


def test_an_uncoordinated_deployment_keeps_a_gpu_that_another_one_needs() -> None:
    jobs = [job(0), job(1, "b-bf16")]
    first, second = replay_uncoordinated(jobs, 1, TIMES)
    assert (first.number, first.claimed_at) == (0, 30), "the job waits for the upscale delay"
    assert (second.number, second.claimed_at) == (1, 160 + 600), "the job waits for the downscale delay"


def test_the_lower_bound_of_the_makespan() -> None:
    assert lower_bound([job(0), job(0), job(50)], 2) == 150
    assert lower_bound([job(0), job(1000)], 2) == 1100


def test_the_fair_waits_of_a_light_and_a_heavy_owner() -> None:
    jobs = sorted([job(0, owner="heavy") for _ in range(20)] + [job(0, owner="light")], key=lambda item: item.owner)
    fair = fair_waits(jobs, 1, TIMES)
    assert fair["light"] == pytest.approx(100 + 130), "half of the GPU, then the running job's remainder and one load"
    assert fair["heavy"] > 1800


@pytest.mark.parametrize("name", STANDARD)
def test_the_scheduler_meets_its_targets_on_the_standard_traces(name: str) -> None:
    times = load_times()
    jobs = make_trace(name, GPUS, times)

    runs = replay(jobs, GPUS, times, Queue(Policy(), Ledger()))

    assert Counter(run.number for run in runs) == Counter(range(len(jobs)))
    found, served = measure(jobs, GPUS, runs), measure(jobs, GPUS, replay(jobs, GPUS, times, FirstComeFirstServed()))
    assert found.makespan <= 1.15 * found.bound
    assert found.swaps <= served.swaps / 2
    fair = fair_waits(jobs, GPUS, times)
    assert all(wait <= 2 * fair[owner] for owner, wait in found.wait_p95_by_owner.items())


def test_equal_seeds_make_equal_traces() -> None:
    times = load_times()
    assert make_trace("steady", 2, times, seed=3) == make_trace("steady", 2, times, seed=3)
    assert make_trace("steady", 2, times, seed=3) != make_trace("steady", 2, times, seed=4)
    assert len(make_trace("burst", 2, times, jobs=7)) == 7


def test_a_trace_is_read_from_a_file_of_json_lines(tmp_path: Path) -> None:
    jobs = [replace(job(1, owner="ann"), priority=1, loras=("style",)), job(2, "b-bf16")]
    (tmp_path / "trace.jsonl").write_text("\n".join(json.dumps(asdict(item)) for item in jobs))
    assert read_trace(tmp_path / "trace.jsonl", TIMES) == jobs


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "line 1: Invalid JSON"),
        (b'{"at": 0}', "line 1: model"),
        (b'{"at": 0, "model": "c", "run_seconds": 1}', "the model 'c' has no known times, expected one of a-bf16"),
        (b'{"at": 0, "model": "a-bf16", "run_seconds": 0}', "run_seconds Input should be greater than 0"),
        (b'{"at": -1, "model": "a-bf16", "run_seconds": 1}', "at Input should be greater than or equal to 0"),
        (b'{"at": 0, "model": "a-bf16", "run_seconds": Infinity}', "run_seconds Input should be a finite number"),
        (b'{"at": 0, "model": "a-bf16", "run_seconds": 1, "more": 1}', "more"),
        (b"[]", "line 1"),
        (b"\xff\x00", "line 1"),
        (b"", "no jobs"),
    ],
)
def test_a_bad_trace_is_rejected_with_the_line_number(line: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(line)
    with pytest.raises(InvalidRequest, match=reason):
        read_trace(tmp_path / "bad.jsonl", TIMES)


def test_the_completed_jobs_of_a_database_are_a_trace_that_begins_with_the_first_job(
    store: JobStore, database_url: str, clock: Clock
) -> None:
    for seconds in (3.5, 4.5):
        done = store.writer.submit(make_job())
        store.runner.claim(done.id, lease_seconds=10)
        store.runner.complete(done.id, 1, output={}, result={"generation_time_seconds": seconds})
        clock.now += 60
    store.writer.submit(make_job())

    found = read_store(database_url, load_times())

    assert [(job.at, job.model, job.run_seconds) for job in found] == [(0, "tiny-t2v", 3.5), (60, "tiny-t2v", 4.5)]
    assert measure(found, 1, replay(found, 1, load_times(), Queue(Policy(), Ledger()))).makespan < 80


def test_a_database_without_completed_jobs_is_rejected(store: JobStore, database_url: str) -> None:
    with pytest.raises(InvalidRequest, match="no completed job"):
        read_store(database_url, load_times())


def test_the_command_prints_json_and_draws_a_plot(tmp_path: Path) -> None:
    plot = tmp_path / "replay.png"
    done = CliRunner().invoke(app, ["simulate", "--trace", "burst", "--gpus", "2", "--json", "--plot", str(plot)])
    assert done.exit_code == 0
    assert set(json.loads(done.stdout)) == {"scheduler", "fcfs", "serve"}
    with Image.open(plot) as drawn:
        assert drawn.width > 800


@pytest.mark.parametrize(
    ("trace", "reason"),
    [("nowhere", "expected steady, burst, tenant"), ("sqlite:///new.db", "no database"), ("x://y", "not supported")],
)
def test_the_command_reports_a_bad_trace_and_creates_no_file(
    trace: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["simulate", "--trace", trace])
    assert done.exit_code == 2
    assert reason in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
