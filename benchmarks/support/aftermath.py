"""Checks of a data folder after failures: each job ended once, with one video, and the store agrees with itself."""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

_ENDED = ("completed", "failed", "cancelled")


def digest(video: bytes | Path) -> str:
    """Returns the hash of a video. Equal requests make equal files, because the encoder is reproducible."""
    return hashlib.sha256(video if isinstance(video, bytes) else video.read_bytes()).hexdigest()


def find_videos(data_dir: Path, job_id: str) -> list[Path]:
    """Returns the mp4 files of a job."""
    return sorted((data_dir / "outputs" / job_id).rglob("*.mp4"))


def list_jobs(data_dir: Path) -> list[str]:
    """Returns the ids of all jobs in the store."""
    return [job for (job,) in _query(data_dir, "SELECT id FROM jobs")]


def find_lost(data_dir: Path, submitted: Collection[str]) -> list[str]:
    """Describes the jobs that were acknowledged, and are not in the store or have not ended."""
    states = {job: state for job, state in _query(data_dir, "SELECT id, state FROM jobs")}
    return [f"{job} is {states.get(job, 'gone')}" for job in submitted if states.get(job) not in _ENDED]


def find_duplicated(data_dir: Path, submitted: Collection[str]) -> list[str]:
    """Describes the jobs that nobody has submitted, and those that have ended more than once."""
    known = set(list_jobs(data_dir))
    ends: Counter[str] = Counter()
    for job, data in _query(data_dir, "SELECT job_id, data FROM events WHERE type = 'updated'"):
        ends[job] += json.loads(data).get("state") in _ENDED
    extra = [f"{job} was not submitted" for job in sorted(known - set(submitted))]
    return extra + [f"{job} ended {ends[job]} times" for job in submitted if job in known and ends[job] != 1]


def find_inconsistent(data_dir: Path) -> list[str]:
    """Describes what in the store contradicts itself or the files, once all jobs have ended."""
    problems = [text for (text,) in _query(data_dir, "PRAGMA integrity_check") if text != "ok"]
    counted = "SELECT state, model, hidden, COUNT(*) FROM jobs GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    stored = "SELECT state, model, hidden, SUM(jobs) FROM job_counts GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    if _query(data_dir, counted) != _query(data_dir, stored):
        problems.append("the stored counts differ from the jobs")
    problems += [f"{job} has a lease" for (job,) in _query(data_dir, "SELECT id FROM jobs WHERE lease_expires_at > 0")]
    outputs = {job: json.loads(output or "{}") for job, output in _query(data_dir, "SELECT id, output FROM jobs")}
    for folder in sorted((data_dir / "outputs").iterdir()):
        expected = outputs.get(folder.name, {}).get("folder")
        found = [f"outputs/{path.relative_to(data_dir / 'outputs')}" for path in sorted(folder.iterdir())]
        problems += [f"{path} belongs to no job" for path in found if path != expected]
    return problems


def _query(data_dir: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(data_dir / "jobs.db")) as connection:
        return connection.execute(query).fetchall()
