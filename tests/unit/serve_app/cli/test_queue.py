"""`wan22 queue` against the API over HTTP, with a real database and without running jobs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serve_app.api.services import Services
from serve_app.cli.main import app
from serve_app.settings import Settings
from tests.http_api import open_services
from tests.jobs import make_job, make_params


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return open_services(Settings(data_dir=tmp_path).with_absolute_paths())


def _run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["queue", *arguments, "--url", url])


def _submit(services: Services, prompt: str = "a cat") -> str:
    return services.store.writer.submit(make_job(params=make_params(prompt=prompt))).id


def test_the_summary_counts_jobs_and_lists_the_active_ones(services: Services, url: str) -> None:
    cancelled, waiting, running = (_submit(services, prompt) for prompt in ("old", "a \x1b[2J cat", "a dog"))
    services.store.writer.request_cancel(cancelled)
    services.store.runner.claim(running, lease_seconds=100)
    done = _run(url)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "1 pending, 1 processing, 0 completed, 0 failed, 1 cancelled",
        f"place job{' ' * 28}model    size  prompt",
        f"runs  {running} tiny-t2v 64x64 a dog",
        f"1     {waiting} tiny-t2v 64x64 a \\x1b[2J cat",
    ]
    shown = json.loads(_run(url, "--json").stdout)
    assert (shown["paused"], shown["pending"], shown["cancelled"]) == (False, 1, 1)
    assert [task["id"] for task in shown["tasks"]] == [running, waiting]


def test_an_empty_queue_has_no_table(url: str) -> None:
    assert _run(url).stdout == "0 pending, 0 processing, 0 completed, 0 failed, 0 cancelled\n"


def test_the_queue_is_paused_and_resumed(services: Services, url: str) -> None:
    assert "paused" in _run(url, "pause").stdout
    assert services.store.queue.is_paused()
    assert "wan22 queue resume" in _run(url).stdout
    assert _run(url, "resume").exit_code == 0
    assert not services.store.queue.is_paused()


def test_pending_jobs_are_reordered(services: Services, url: str) -> None:
    first, second = _submit(services), _submit(services)
    assert _run(url, "reorder", second, first).stdout == "Reordered.\n"
    assert services.store.queue.page().positions == {second: 1, first: 2}


def test_a_cancelled_job_is_retried_cleared_and_deleted(services: Services, url: str) -> None:
    job_id = _submit(services)
    services.store.writer.request_cancel(job_id)
    assert _run(url, "retry", job_id).stdout == "The job is pending.\n"
    services.store.writer.request_cancel(job_id)
    assert _run(url, "clear").stdout.startswith("Ended jobs removed from the list: 1.")
    assert _run(url, "delete", job_id).stdout == "Deleted.\n"
    assert services.store.reader.page() == []


def test_the_service_explains_what_it_rejects(services: Services, url: str) -> None:
    job_id = _submit(services)
    services.store.runner.claim(job_id, lease_seconds=100)
    for command, message in (("retry", "only a failed or cancelled job"), ("delete", "can't be deleted")):
        done = _run(url, command, job_id)
        assert (done.exit_code, done.stdout) == (2, "")
        assert message in done.stderr


def test_the_url_may_stand_before_the_command(services: Services, url: str) -> None:
    done = CliRunner().invoke(app, ["queue", "--url", url, "pause"])
    assert done.exit_code == 0, done.output
    assert services.store.queue.is_paused()
