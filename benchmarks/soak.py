"""Runs hundreds of small jobs of all model types while it kills processes and cancels jobs: each job must end once.

The run takes a quarter of an hour at least. It tests endurance, not speed.
"""

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.reporting import Row, parse_arguments, report
from benchmarks.support.running import RunningService, running_service
from wan22_bridge.errors import Wan22Error
from wan22_bridge.media.writer import read_video_info

MODELS = ("tiny-t2v", "tiny-ti2v")
VICTIMS = ("generator", "generator", "generator", "dispatcher", "downloader", "ingress", "ServeController")
CANCELLED_SHARE = 0.1
KILL_SECONDS = 25.0
_LONGEST_SECONDS = 3600.0


def main() -> None:
    """Runs the soak, and reports the tally."""
    arguments = parse_arguments("Run many jobs with kills and cancellations: each job must end once.")
    count, least_seconds = (40, 60.0) if arguments.quick else (500, 900.0)
    with tempfile.TemporaryDirectory(prefix="wan22-soak-") as name:
        args: dict[str, Any] = {
            "max_attempts": 50,
            "lease_seconds": 5,
            "generator": {"shared": False, "loaded_models": 1},
        }
        with running_service(Path(name), **args) as service:
            soak = _Soak(service, count, least_seconds)
            soak.run()
            report(soak.tally(), arguments.json)


class _Soak:
    def __init__(self, service: RunningService, count: int, least_seconds: float) -> None:
        self._service, self._count, self._least_seconds = service, count, least_seconds
        self._chance = random.Random(5)
        self._client = httpx.Client(base_url=service.url, timeout=60)
        self._image = ""
        self._jobs: list[str] = []
        self._cancelled: set[str] = set()
        self._kills: Counter[str] = Counter()
        self._began = time.monotonic()

    def run(self) -> None:
        """Submits, cancels and kills, spread evenly over the time, and then waits for the remaining jobs."""
        self._submit("tiny-t2v")
        first = self._wait_for(self._jobs[0])
        frame = self._ask("GET", f"/api/v1/outputs/{first['id']}/last_frame").content
        upload = self._ask("POST", "/api/v1/uploads", files={"file": ("frame.png", frame)}).json()
        self._image = upload["id"]
        killed_at = time.monotonic()
        while len(self._jobs) < self._count or time.monotonic() - self._began < self._least_seconds:
            if len(self._jobs) < self._count:
                self._submit(self._chance.choice([*MODELS, "tiny-i2v"]))
                if self._chance.random() < CANCELLED_SHARE:
                    self._cancel(self._chance.choice(self._jobs[-10:]))
            if time.monotonic() - killed_at >= KILL_SECONDS:
                killed_at = time.monotonic()
                self._kill(self._chance.choice(VICTIMS))
            time.sleep(0.8 * self._least_seconds / self._count)
        for task_id in self._jobs:
            self._wait_for(task_id)

    def tally(self) -> list[Row]:
        """Returns the number of jobs by outcome, and the violations."""
        tasks = [self._wait_for(task_id) for task_id in self._jobs]
        states = Counter(task["status"] for task in tasks)
        videos = [list((self._service.data_dir / "outputs" / task["id"]).rglob("*.mp4")) for task in tasks]
        cancelled = {task["id"] for task in tasks if task["status"] == "cancelled"}
        wrong = sum(not _is_right(task, found) for task, found in zip(tasks, videos, strict=True))
        return [
            Row("jobs", len(tasks), ""),
            Row("minutes", (time.monotonic() - self._began) / 60, "min"),
            *(Row(f"killed: {name}", count, "") for name, count in sorted(self._kills.items())),
            Row("completed", states["completed"], ""),
            Row("cancelled", states["cancelled"], ""),
            Row("started more than once", sum(task["attempt"] > 1 for task in tasks), ""),
            Row("resumed from a snapshot", sum(_resumed(task) for task in tasks), ""),
            Row("failed", states["failed"], "", 0),
            Row("cancelled without a request", len(cancelled - self._cancelled), "", 0),
            Row("with no video, a wrong one, or more than one", wrong, "", 0),
        ]

    def _submit(self, model: str) -> None:
        body: dict[str, Any] = {"prompt": "a red circle moving right", "model_type": model, "num_frames": 5}
        body |= {"resolution": "96x96", "steps": self._chance.choice([4, 8, 40]), "seed": len(self._jobs)}
        if model == "tiny-i2v":
            body["image_path"] = self._image
        key = {"Idempotency-Key": f"soak-{len(self._jobs)}"}
        self._jobs.append(self._ask("POST", "/api/v1/generation/submit", json=body, headers=key).json()["task_id"])

    def _cancel(self, task_id: str) -> None:
        answer = self._ask("POST", f"/api/v1/queue/{task_id}/cancel")
        if answer.is_success:
            self._cancelled.add(task_id)

    def _kill(self, victim: str) -> None:
        for process in self._service.processes():
            try:
                if victim in " ".join(process.cmdline()) and "ray::Serve" in " ".join(process.cmdline()):
                    process.kill()
                    self._kills[victim] += 1
                    return
            except psutil.Error:
                continue

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Repeats a request while the service does not answer, as a client does."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                answer = self._client.request(method, path, **options)
                if answer.status_code < 500:
                    return answer
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        raise SystemExit(f"{method} {path} was not answered.")

    def _wait_for(self, task_id: str) -> dict[str, Any]:
        while True:
            task: dict[str, Any] = self._ask("GET", f"/api/v1/generation/{task_id}").json()
            if task["status"] in ("completed", "failed", "cancelled"):
                return task
            if time.monotonic() - self._began > _LONGEST_SECONDS:
                raise SystemExit(f"{task_id} has not ended: {task}")
            time.sleep(0.5)


def _resumed(task: dict[str, Any]) -> bool:
    return bool(task["result"] and task["result"]["resumed_from_step"])


def _is_right(task: dict[str, Any], videos: list[Path]) -> bool:
    if task["status"] != "completed":
        return not videos
    try:
        return len(videos) == 1 and read_video_info(videos[0]).num_frames == 5
    except Wan22Error:
        return False


if __name__ == "__main__":
    main()
