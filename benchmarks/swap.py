"""Measures model swaps: from a job's submission to its first step, while the only slot holds another model."""

import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.middle_models import HUNDRED_MILLION, make_middle_model
from benchmarks.support.page_cache import evict
from benchmarks.support.reporting import Row, parse_arguments, report
from benchmarks.support.running import RunningService, running_service
from serve_app.cli.client import Client
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.builtin import FAMILY, ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.models.page_cache import prefetch_weights

MODELS = ("tiny-t2v", "tiny-ti2v")
_GENERATOR = {"num_gpus": 0, "preview_interval_seconds": 0}


def main() -> None:
    """Measures swaps and loads, and reports the rows."""
    arguments = parse_arguments("Measure model swaps and model loads.")
    changes = 2 if arguments.quick else 6
    rows = []
    with tempfile.TemporaryDirectory(prefix="wan22-bench-") as name:
        apart = _measure_swaps(Path(name) / "apart", changes, shared=False, loaded_models=1)
        one = _measure_swaps(Path(name) / "one", changes, shared=True, loaded_models=1)
        both = _measure_swaps(Path(name) / "both", changes, shared=True, loaded_models=2)
        rows += [Row(f"another replica: {part}", seconds, "s") for part, seconds in apart.items() if part != "all"]
        rows.append(Row("another replica: submission to first step", apart["all"], "s", 6.0))
        rows.append(Row("one replica, one loaded model: load", one["load"], "s"))
        rows.append(Row("one replica, one loaded model: submission to first step", one["all"], "s", 0.5))
        rows.append(Row("one replica, both models loaded: submission to first step", both["all"], "s", 0.5))
        rows.append(Row("one replica, one loaded model / another replica", one["all"] / apart["all"], "×"))
        imports = _measure_imports(2 if arguments.quick else 5)
        rows.append(Row("importing torch and diffusers in a new process", imports, "s"))
        rows.append(Row("another replica: submission to first step / imports", apart["all"] / imports, "×"))
        rows += _measure_load(Path(name), rounds=3 if arguments.quick else 7)
    report(rows, arguments.json)


def _measure_swaps(folder: Path, changes: int, **generator: Any) -> dict[str, float]:
    """Returns the median seconds from submission to first step: as a whole (`all`) and by part."""
    folder.mkdir()
    for member in FAMILY:
        ensure_tiny_model(folder / "data" / "models", member)
    found: list[dict[str, float]] = []
    with running_service(folder, generator=_GENERATOR | generator) as service, Client(service.url) as client:
        for change in range(changes + 2):
            with _watching(service) as processes:
                task_id = client.submit({"prompt": f"take {change}", "model_type": MODELS[change % 2], "steps": 4}, {})
                *_, last = client.follow(task_id)
            assert last["status"] == "completed", last
            if change >= 2:  # each model has been loaded once
                found.append(_split(service.data_dir / "jobs.db", task_id, processes))
            time.sleep(2)
    return {part: statistics.median(split[part] for split in found) for part in found[0]}


def _split(database: Path, task_id: str, processes: dict[str, float]) -> dict[str, float]:
    """Returns the seconds of each part, from the event log and from the start and end of generator processes."""
    with sqlite3.connect(database) as connection:
        query = "SELECT created_at, data FROM events WHERE job_id = ? ORDER BY sequence"
        events = [(at, json.loads(data)) for at, data in connection.execute(query, [task_id])]
    submitted = events[0][0]
    claimed = next(at for at, data in events if data["stage"] == "loading_model")
    begun = [at for at, data in events if data["stage"] == "loading_model"][-1]
    loaded = next(at for at, data in events if data["stage"] == "preparing_inputs")
    stepped = next(at for at, data in events if data["current_step"] >= 1)
    times = {
        "claim": claimed - submitted,
        "decision": processes.get("came", begun) - claimed,
        "start": begun - processes.get("came", begun),
        "load": loaded - begun,
        "first step": stepped - loaded,
        "all": stepped - submitted,
    }
    if "gone" in processes:
        times["exit of the old replica, at the same time"] = processes["gone"] - claimed
    return times


@contextmanager
def _watching(service: RunningService) -> Iterator[dict[str, float]]:
    """Records when a generator's process started (`came`) and when one ended (`gone`) while the context is open."""
    seen: dict[str, float] = {}
    before, ended = _generators(service), threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            now = _generators(service)
            if now - before:
                seen.setdefault("came", time.time())
            if before - now:
                seen.setdefault("gone", time.time())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _generators(service: RunningService) -> set[int]:
    found = set()
    for process in service.processes():
        try:
            if "wan22:generator" in " ".join(process.cmdline()):
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


def _measure_imports(rounds: int) -> float:
    """Returns the median seconds of a process that imports what every new replica imports."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch; from diffusers import WanPipeline"], check=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _measure_load(folder: Path, *, rounds: int) -> list[Row]:
    """Compares loading a model with reading its weights, alternately: from the page cache, then from the disk."""
    spec, model = load_catalogue()["tiny-t2v"], make_middle_model("t2v", folder / "middle", HUNDRED_MILLION)
    bridge, files = ModelIntegrationBridge(), sorted(model.rglob("*.safetensors"))
    loads, reads, cold, ahead = list[float](), list[float](), list[float](), list[float]()

    def load() -> float:
        began = time.perf_counter()
        loaded = bridge.load(spec, model)
        seconds = time.perf_counter() - began
        loaded.close()
        return seconds

    def evict_all() -> None:
        for file in files:
            evict(file)

    for _ in range(rounds):
        began = time.perf_counter()
        weights = [weight.clone() for file in files for weight in load_file(file).values()]
        reads.append(time.perf_counter() - began)
        del weights
        loads.append(load())
    for _ in range(rounds):
        evict_all()
        cold.append(load())
        evict_all()
        prefetch_weights(model, lambda: True)
        ahead.append(load())
    size = sum(file.stat().st_size for file in files) / 1e6
    return [
        Row(f"reading {size:.0f} MB with safetensors", statistics.median(reads), "s"),
        Row(f"loading a model of {size:.0f} MB", statistics.median(loads), "s"),
        Row("loading / reading", statistics.median(loads) / statistics.median(reads), "×", 1.3),
        Row("loading the model from the disk", statistics.median(cold), "s"),
        Row("loading the model from the disk, after a prefetch", statistics.median(ahead), "s"),
    ]


if __name__ == "__main__":
    main()
