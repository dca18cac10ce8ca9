"""Compares the service with a plain diffusers script: the same jobs on both, alternately in one run."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.reporting import Row, parse_arguments, report
from benchmarks.support.running import ROOT, running_service
from serve_app.cli.client import Client
from wan22_bridge.builtin import FAMILY, ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue

SPEC = load_catalogue()["tiny-t2v"]


def main() -> None:
    """Measures both sides, and reports the rows."""
    arguments = parse_arguments("Compare the service with a plain diffusers script.")
    count = 5 if arguments.quick else 20
    with tempfile.TemporaryDirectory(prefix="wan22-bench-") as name:
        folder = Path(name)
        for member in FAMILY:
            ensure_tiny_model(folder / "data" / "models", member)
        with running_service(folder) as service, _script(folder) as script:
            time.sleep(5)
            rows = [Row("idle memory of the service", _memory_mb(service.processes()), "MB")]
            rows += _compare(service.url, script, folder, count)
            rows.append(Row("memory with one model loaded", _memory_mb(service.processes()), "MB"))
    report(rows, arguments.json)


def _compare(url: str, script: "subprocess.Popen[str]", folder: Path, count: int) -> list[Row]:
    """Runs each job on both sides. The side that goes first alternates."""
    plain: list[float] = []
    served: list[float] = []
    submitted: list[float] = []
    around: list[float] = []
    with Client(url) as client:
        cold = _run_served(client, "warm up", 0)[1]
        _run_plain(script, "warm up", 0, folder)
        for index in range(count):
            prompt = f"a red circle moving right, take {index}"
            for side in ("plain", "served") if index % 2 else ("served", "plain"):
                if side == "plain":
                    plain.append(_run_plain(script, prompt, index, folder))
                else:
                    answer_seconds, seconds, generation_seconds = _run_served(client, prompt, index)
                    submitted.append(answer_seconds)
                    served.append(seconds)
                    around.append(seconds - generation_seconds)
    return [
        Row("first job, with the start of the generator", cold, "s"),
        Row(f"{count} jobs by the plain script", sum(plain), "s"),
        Row(f"{count} jobs through the service", sum(served), "s"),
        Row("service / script, wall time", sum(served) / sum(plain), "×", 1.10),
        Row("overhead around a generation, median", 1000 * statistics.median(around), "ms"),
        Row("submission, median", 1000 * statistics.median(submitted), "ms", 30.0),
        Row("submission, slowest", 1000 * max(submitted), "ms"),
    ]


def _run_served(client: Client, prompt: str, seed: int) -> tuple[float, float, float]:
    """Returns the seconds until the answer to the submission, until the video, and of the generation alone."""
    began = time.perf_counter()
    task_id = client.submit({"prompt": prompt, "seed": seed, "model_type": SPEC.id}, {})
    answered = time.perf_counter()
    *_, last = client.follow(task_id)
    assert last["status"] == "completed", last
    ended = time.perf_counter()
    return answered - began, ended - began, client.task(task_id)["result"]["generation_time_seconds"]


def _run_plain(script: "subprocess.Popen[str]", prompt: str, seed: int, folder: Path) -> float:
    assert script.stdin is not None
    assert script.stdout is not None
    script.stdin.write(json.dumps({"prompt": prompt, "seed": seed, "path": str(folder / "plain.mp4")}) + "\n")
    script.stdin.flush()
    return float(script.stdout.readline())


@contextmanager
def _script(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Runs the plain script, with its model loaded, while the context is open."""
    model = ensure_tiny_model(folder / "data" / "models", SPEC.source_ref)
    numbers = (*SPEC.size, SPEC.num_frames, SPEC.steps, SPEC.flow_shift, SPEC.fps)
    command = [sys.executable, str(ROOT / "benchmarks" / "support" / "plain_script.py"), str(model), *map(str, numbers)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _memory_mb(processes: list[psutil.Process]) -> float:
    """Returns the proportional set size of all processes together, which counts shared memory once."""
    return sum(process.memory_full_info().pss for process in processes if process.is_running()) / 2**20


if __name__ == "__main__":
    main()
