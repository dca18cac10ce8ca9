"""`wan22 audit` against the API."""

import json
from pathlib import Path

from typer.testing import CliRunner

from deployments.jobs.api_keys import Scope
from deployments.jobs.store import JobStore
from serve_app.cli.main import app
from tests.http_api import serving_api


def test_the_log_is_shown_to_administrators_only(tmp_path: Path) -> None:
    with serving_api(tmp_path, allow_anonymous=False) as url:
        store = JobStore(f"sqlite:///{tmp_path}/data/jobs.db")
        admin, alice = (
            store.keys.create(name, [scope]) for name, scope in (("op", Scope.ADMIN), ("alice", Scope.READ))
        )
        store.database.close()

        def run(*arguments: str, key: str) -> tuple[int, str, str]:
            result = CliRunner().invoke(app, [*arguments, "--url", url, "--api-key", key])
            return result.exit_code, result.stdout, result.stderr

        status, _, message = run("audit", key=alice[1])
        assert status != 0
        assert "lacks the scope admin" in message
        assert run("queue", "pause", key=admin[1])[0] == 0
        actions = json.loads(run("audit", "--json", key=admin[1])[1])
        assert [action["action"] for action in actions] == ["pause_queue", "create_key", "create_key"]
        table = run("audit", "--limit", "1", key=admin[1])[1]
        assert "create_key" not in table
        assert f"op ({admin[0].id})" in table
        older = json.loads(run("audit", "--json", "--before", str(actions[0]["number"]), key=admin[1])[1])
        assert older == actions[1:]
