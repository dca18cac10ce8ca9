"""Kills each process of a service at random moments under load: no job may be lost, end twice or have a wrong video.

A whole run kills each kind of process 100 times, which takes hours. It tests endurance, not speed.
"""

import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support import aftermath
from benchmarks.support.killing import ENDING, EVERYTHING, REPLACED, Killer, kill_rest
from benchmarks.support.reporting import Row, make_parser, report
from benchmarks.support.running import running_service

MODELS = ("tiny-t2v", "tiny-ti2v", "tiny-i2v")
STEPS, SEEDS = (4, 40), (1, 2)
"""Each model makes a video for each of these, before the first kill. Later videos must equal them to the bit."""
CANCELLED_SHARE = 0.1
OPEN_JOBS = 4
"""Number of jobs that wait or run at any time."""
MEAN_SECONDS = 8.0
"""Mean time between two kills."""
_END_SECONDS = 60.0
"""Maximum time from the death of Ray's own processes to the end of `wan22 serve`."""
_LONGEST_WAIT_SECONDS = 900.0
_SETTINGS: dict[str, Any] = {
    "max_attempts": 50,
    "lease_seconds": 5,
    "generator": {"shared": False, "loaded_models": 1, "checkpoint_interval_seconds": 0.5},
}


def main() -> None:
    """Runs the soak, and reports the tally."""
    parser = make_parser("Kill processes at random moments: each job must end once, with the right video.")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="decides when which process dies")
    parser.add_argument("--kills", type=int, help="kills of each kind of process (default: 100)")
    arguments = parser.parse_args()
    kills = arguments.kills or (3 if arguments.quick else 100)
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="wan22-soak-") as name, _Soak(Path(name), arguments.seed) as soak:
        soak.run(kills)
        report(soak.tally(), arguments.json)


class _Soak:
    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._data_dir = folder, folder / "data"
        self._chance = random.Random(seed)
        self._killer = Killer(seed, [*REPLACED, *ENDING, EVERYTHING])
        self._stack = ExitStack()
        self._image = b""
        self._jobs: dict[str, tuple[str, int, int]] = {}
        """Model, steps and seed of each job."""
        self._expected: dict[tuple[str, int, int], str] = {}
        self._cancelled: set[str] = set()
        self._endings: Counter[str] = Counter()
        self._misleading: list[str] = []
        self._began = time.monotonic()

    def __enter__(self) -> "_Soak":
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, kills: int) -> None:
        """Makes the reference videos, then submits, cancels and kills, and waits for the remaining jobs."""
        self._make_references()
        total = kills * len(self._killer.kills)
        next_kill = time.monotonic() + self._killer.wait_seconds(MEAN_SECONDS)
        while self._killer.kills.total() < total:
            if self._count_open() < OPEN_JOBS:
                self._submit(self._chance.choice(list(self._expected)))
                if self._chance.random() < CANCELLED_SHARE:
                    self._cancel(self._chance.choice(list(self._jobs)[-4:]))
            if time.monotonic() >= next_kill:
                self._kill(kills)
                next_kill = time.monotonic() + self._killer.wait_seconds(MEAN_SECONDS)
            time.sleep(0.05)
        for task_id in self._jobs:
            self._wait_for(task_id)

    def tally(self) -> list[Row]:
        """Returns the number of jobs by outcome, and the violations, which it prints."""
        tasks = [self._wait_for(task_id) for task_id in self._jobs]
        states = Counter(task["status"] for task in tasks)
        violations = {
            "jobs lost": aftermath.find_lost(self._data_dir, self._jobs),
            "jobs duplicated": aftermath.find_duplicated(self._data_dir, self._jobs),
            "videos wrong, missing or superfluous": [found for task in tasks for found in self._check_videos(task)],
            "jobs failed": [f"{task['id']}: {task['error']}" for task in tasks if task["status"] == "failed"],
            "jobs cancelled without a request": sorted(self._find_cancelled(tasks) - self._cancelled),
            "misleading answers": self._misleading,
            "contradictions in the store": aftermath.find_inconsistent(self._data_dir),
        }
        for name, found in violations.items():
            for text in found:
                print(f"{name}: {text}")
        return [
            Row("jobs", len(tasks), ""),
            Row("minutes", (time.monotonic() - self._began) / 60, "min"),
            *(Row(f"kills: {name}", count, "") for name, count in self._killer.kills.items()),
            Row("kills", self._killer.kills.total(), ""),
            *(Row(name, count, "") for name, count in sorted(self._endings.items())),
            Row("completed", states["completed"], ""),
            Row("cancelled", states["cancelled"], ""),
            Row("started more than once", sum(task["attempt"] > 1 for task in tasks), ""),
            Row("resumed from a snapshot", sum(_resumed(task) for task in tasks), ""),
            *(Row(name, len(found), "", 0) for name, found in violations.items()),
        ]

    def _start(self) -> None:
        self._service = self._stack.enter_context(running_service(self._folder, **_SETTINGS))
        self._client = self._stack.enter_context(httpx.Client(base_url=self._service.url, timeout=60))

    def _make_references(self) -> None:
        first = self._wait_for(self._submit(("tiny-t2v", STEPS[0], SEEDS[0])))
        self._image = self._ask("GET", f"/api/v1/outputs/{first['id']}/last_frame").content
        recipes = {self._submit((model, steps, seed)): 0 for model in MODELS for steps in STEPS for seed in SEEDS}
        for task_id in recipes:
            self._wait_for(task_id)
            [video] = aftermath.find_videos(self._data_dir, task_id)
            self._expected[self._jobs[task_id]] = aftermath.digest(video)

    def _submit(self, recipe: tuple[str, int, int]) -> str:
        model, steps, seed = recipe
        fields: dict[str, Any] = {"prompt": "a red circle moving right", "model_type": model, "num_frames": 5}
        fields |= {"resolution": "96x96", "steps": steps, "seed": seed}
        files = {"image": ("frame.png", self._image)} if model == "tiny-i2v" else None
        key = {"Idempotency-Key": f"soak-{len(self._jobs)}"}
        answer = self._ask("POST", "/api/v1/generation/submit", data=fields, files=files, headers=key)
        task_id = str(answer.raise_for_status().json()["task_id"])
        self._jobs[task_id] = recipe
        return task_id

    def _cancel(self, task_id: str) -> None:
        self._cancelled.add(task_id)  # even if the answer is lost
        self._ask("POST", f"/api/v1/queue/{task_id}/cancel")

    def _count_open(self) -> int:
        queue = self._ask("GET", "/api/v1/queue", params={"limit": 1}).json()
        return int(queue["pending_tasks"] + queue["processing_tasks"])

    def _kill(self, most: int) -> None:
        processes = self._service.processes()
        kind = self._killer.kill(self._service, most)
        print(f"{time.monotonic() - self._began:7.1f} s  killed: {kind}", flush=True)
        if kind in ENDING:
            self._endings[self._await_end()] += 1
        if kind in (*ENDING, EVERYTHING):
            kill_rest(processes)
            self._start()

    def _await_end(self) -> str:
        try:
            psutil.Process(self._service.process.pid).wait(_END_SECONDS)
        except psutil.NoSuchProcess:
            return "ends of the service by itself"
        except psutil.TimeoutExpired:
            return f"services that did not end within {_END_SECONDS:.0f} s"
        return "ends of the service by itself"

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Repeats a request while the service does not answer, as a client does."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                answer = self._client.request(method, path, **options)
                if answer.status_code < 500 and not answer.headers["content-type"].startswith("text/"):
                    return answer
                if answer.status_code < 500:
                    self._misleading.append(f"{method} {path}: {answer.status_code} {answer.text[:120]}")
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        raise SystemExit(f"{method} {path} was not answered.")

    def _wait_for(self, task_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
        while True:
            task: dict[str, Any] = self._ask("GET", f"/api/v1/generation/{task_id}").json()
            if task["status"] in ("completed", "failed", "cancelled"):
                return task
            if time.monotonic() > deadline:
                raise SystemExit(f"{task_id} has not ended: {task}")
            time.sleep(0.2)

    def _check_videos(self, task: dict[str, Any]) -> list[str]:
        found = [aftermath.digest(path) for path in aftermath.find_videos(self._data_dir, task["id"])]
        expected = [self._expected[self._jobs[task["id"]]]] if task["status"] == "completed" else []
        return [] if found == expected else [f"{task['id']} ({task['status']}) has {found}: expected {expected}"]

    def _find_cancelled(self, tasks: list[dict[str, Any]]) -> set[str]:
        return {task["id"] for task in tasks if task["status"] == "cancelled"}


def _resumed(task: dict[str, Any]) -> bool:
    return bool(task["result"] and task["result"]["resumed_from_step"])


if __name__ == "__main__":
    main()
