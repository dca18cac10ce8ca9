"""`wan22 generate --count` against the API over HTTP, with a real database. The test takes the generator's place."""

import json
import os
from _thread import interrupt_main
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deployments.jobs.job import Job, JobState
from deployments.storage.keys import output_key
from serve_app.api.services import Services
from serve_app.cli.main import app
from serve_app.settings import Settings
from tests.http_api import open_services
from tests.pictures import png
from tests.service import wait_until


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return open_services(Settings(data_dir=tmp_path / "data").with_absolute_paths())


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["generate", "a cat", *arguments, "--url", url])


def complete(services: Services, job: Job) -> None:
    """Ends a job with a file that holds the job's seed."""
    services.store.runner.claim(job.id, lease_seconds=60)
    folder = services.storage.work.output_folder(job.id, 1)
    folder.mkdir(parents=True)
    (folder / "video.mp4").write_text(str(job.params.seed))
    output = {"folder": output_key(job.id, 1), "video": "video.mp4", "file_size_bytes": 1}
    services.store.runner.complete(job.id, 1, output=output, result={"success": True, "generation_time_seconds": 1.0})


def run_beside(url: str, services: Services, *arguments: str, end: Callable[[list[Job]], None]) -> Result:
    """Runs the command, and ends its jobs once it has submitted them."""

    def end_jobs() -> None:
        end(wait_until(lambda: services.store.reader.page(newest_first=False), seconds=30, every=0.05))

    with ThreadPoolExecutor() as pool:
        ended = pool.submit(end_jobs)
        done = run(url, *arguments)
        ended.result()
    return done


@pytest.mark.parametrize("image", [False, True])
def test_each_video_of_a_batch_is_saved_under_its_number(url: str, services: Services, image: bool) -> None:
    Path("a.png").write_bytes(png())
    arguments = ["--count", "3", "--seed", "7", "-o", "out.mp4", *(["--image", "a.png"] if image else [])]

    def end(jobs: list[Job]) -> None:
        for job in jobs:
            complete(services, job)

    done = run_beside(url, services, *arguments, end=end)
    assert done.exit_code == 0, done.output
    assert [Path(f"out-{number}.mp4").read_text() for number in (1, 2, 3)] == ["7", "8", "9"]
    assert sorted(os.listdir()) == ["a.png", "out-1.mp4", "out-2.mp4", "out-3.mp4"]
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Saved out-1.mp4", "Saved out-2.mp4", "Saved out-3.mp4"]
    for job in services.store.reader.page():
        assert f"{job.id}: completed" in done.stderr


def test_the_other_videos_are_saved_if_some_jobs_end_without_one(url: str, services: Services) -> None:
    def end(jobs: list[Job]) -> None:
        first, second, third, fourth = jobs
        services.store.writer.request_cancel(first.id)
        services.store.runner.claim(second.id, lease_seconds=60)
        services.store.runner.fail(second.id, 1, {"message": "It broke.", "suggestions": ["Mend it."]})
        services.store.writer.delete(third.id)
        complete(services, fourth)

    done = run_beside(url, services, "--count", "4", "--json", end=end)
    assert done.exit_code == 1, done.output
    tasks = json.loads(done.stdout)
    assert [(task["status"], task.get("file")) for task in tasks] == [
        ("cancelled", None),
        ("failed", None),
        ("completed", f"{tasks[2]['id']}.mp4"),
    ]
    assert os.listdir() == [f"{tasks[2]['id']}.mp4"]
    errors = [line for line in done.stderr.splitlines() if line.startswith(("Error", " "))]
    assert errors[:3] == [
        f"Error: {tasks[0]['id']} was cancelled.",
        f"Error: {tasks[1]['id']}: It broke.",
        "  Mend it.",
    ]
    assert errors[3].endswith("was deleted before its video could be saved.")


def test_ctrl_c_cancels_the_whole_batch(url: str, services: Services) -> None:
    def end(jobs: list[Job]) -> None:
        complete(services, jobs[0])
        interrupt_main()

    done = run_beside(url, services, "--count", "3", end=end)
    assert done.exit_code == 130
    assert "Interrupted. The jobs that had not ended are cancelled." in done.stderr
    count = services.store.reader.count()
    assert (count[JobState.COMPLETED], count[JobState.CANCELLED], count[JobState.PENDING]) == (1, 2, 0)


def test_one_video_keeps_its_name(url: str, services: Services) -> None:
    done = run_beside(url, services, "--count", "1", "-o", "out.mp4", end=lambda jobs: complete(services, jobs[0]))
    assert done.exit_code == 0, done.output
    assert os.listdir() == ["out.mp4"]
    assert services.store.reader.page()[0].batch_id is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "'--count': Input should be greater than or equal to 1"),
        (["--count", "9"], "'--count': Input should be less than or equal to 8"),
        (["--count", "-1"], "'--count': Input should be greater"),
        (["--count", "many"], "'--count': Input should be a valid integer"),
        (["--count", "2.5"], "'--count': Input should be a valid integer"),
        (["--count", "2", "-o", "a/"], "expected a file, got a folder"),
        (["--count", "2", "-o", "missing/a.mp4"], "No such file"),
        (["--count", "2", "-o", "x" * 254], "File name too long"),
        (["--count", "2", "-o", "/dev/null"], "Cannot save 2 videos as '/dev/null'"),
        (["--count", "2", "-o", "taken.mp4"], "taken-2.mp4"),
        (["--count", "2", "--seed", str(2**53 - 1)], "seed is 9007199254740991"),
    ],
)
def test_what_can_not_be_made_or_saved_is_rejected_before_submission(
    url: str, services: Services, arguments: list[str], message: str
) -> None:
    Path("taken-2.mp4").mkdir()
    done = run(url, *arguments)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.stderr.replace("│", "").split())
    assert sum(services.store.reader.count().values()) == 0
    assert os.listdir() == ["taken-2.mp4"]
