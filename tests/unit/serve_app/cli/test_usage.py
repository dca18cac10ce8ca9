"""`wan22 usage` against the API, and requests beyond a limit."""

import json
from pathlib import Path

from typer.testing import CliRunner

from deployments.jobs.limits import UNLIMITED, Account
from deployments.jobs.store import JobStore
from serve_app.cli.main import app
from tests.http_api import serving_api


def test_the_use_and_the_limits_are_shown(tmp_path: Path) -> None:
    with serving_api(tmp_path, limits={"pending_jobs": 7, "pending_jobs_overall": None}) as url:
        store = JobStore(f"sqlite:///{tmp_path}/data/jobs.db")
        store.usage.take_uploads(Account(client="address:127.0.0.1", limits=UNLIMITED), [1_500_000])
        store.database.close()
        shown = CliRunner().invoke(app, ["usage", "--url", url])
        assert shown.exit_code == 0, shown.stderr
        header, row = (line.split() for line in shown.stdout.splitlines())
        assert header == ["day", "client", "GPU", "seconds", "uploads", "MB"]
        assert row[1:] == ["address:127.0.0.1", "0", "1", "1.5"]
        assert "address:127.0.0.1: 0 pending jobs. Limits: " in shown.stderr
        assert "pending_jobs 7" in shown.stderr
        found = json.loads(CliRunner().invoke(app, ["usage", "--days", "9", "--json", "--url", url]).stdout)
        assert found["days"][0]["upload_bytes"] == 1_500_000


def test_a_limit_is_explained_and_is_no_wrong_usage(tmp_path: Path) -> None:
    with serving_api(tmp_path, limits={"requests_per_minute": 1}) as url:
        assert CliRunner().invoke(app, ["usage", "--url", url]).exit_code == 0
        rejected = CliRunner().invoke(app, ["usage", "--url", url])
        assert rejected.exit_code == 1
        assert "The limit requests_per_minute is 1" in rejected.stderr
