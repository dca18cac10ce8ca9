"""`wan22 webhooks` against the API over HTTP, with a real database and without deliveries."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from serve_app.cli.main import app
from tests.http_api import serving_api


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serving_api(tmp_path) as running:
        yield running


def _run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["webhooks", *arguments, "--url", url])


def _cancel(url: str) -> str:
    """Ends a job with a receiver of its own, and returns the job's id."""
    body = {"prompt": "a cat", "webhook_url": "https://example.com/hook/hidden"}
    task_id = httpx.post(f"{url}/api/v1/generation/submit", json=body).json()["task_id"]
    httpx.post(f"{url}/api/v1/queue/{task_id}/cancel").raise_for_status()
    return str(task_id)


def test_webhooks_are_listed_shown_and_replayed(url: str) -> None:
    first, second = _cancel(url), _cancel(url)
    found = json.loads(_run(url, "list", "--json").stdout)
    assert [item["task_id"] for item in found] == [second, first]
    webhook_id = found[0]["id"]
    lines = _run(url, "list", "--job", second, "--status", "pending").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["webhook", "status", "attempts", "type", "job", "receiver"],
        [webhook_id, "pending", "0", "video.cancelled", second, "https://example.com/…"],
    ]
    shown = json.loads(_run(url, "show", webhook_id).stdout)
    assert shown["payload"]["data"]["id"] == second
    assert "hidden" not in str(shown)
    assert _run(url, "replay", webhook_id).stdout == "The webhook is pending.\n"


def test_the_secret_is_printed(url: str) -> None:
    secret = httpx.get(f"{url}/api/v1/webhooks/secret").json()["secret"]
    assert _run(url, "secret").stdout == f"{secret}\n"


def test_wrong_requests_are_explained(url: str) -> None:
    for arguments in (("show", "msg_none"), ("replay", "msg_none")):
        done = _run(url, *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"There is no webhook '{arguments[1]}'" in done.stderr
    for option, value in (("--status", "completed"), ("--limit", "101"), ("--limit", "0")):
        assert _run(url, "list", option, value).exit_code == 2


def test_generate_rejects_a_private_receiver(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["generate", "a cat", "--webhook-url", "http://10.0.0.1/", "--url", url])
    assert done.exit_code == 2
    assert "webhook_url has the private address '10.0.0.1'" in done.stderr
