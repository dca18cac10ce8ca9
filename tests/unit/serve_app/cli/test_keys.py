"""`wan22 keys` on a database without a service, and `--api-key` against the API."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from deployments.jobs.api_keys import Scope, parse_key
from deployments.jobs.store import JobStore
from serve_app.cli.main import app
from tests.databases import write_database
from tests.http_api import serving_api
from tests.service import ROOT, wait_until


def _run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments, "--data-dir", str(folder)])


def _list(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(_run(folder, "list", "--json").stdout)
    return found


def test_a_key_is_created_before_the_service_has_a_database(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    made = _run(tmp_path / "data", "create", "--owner", "alice", "--expires-days", "30")
    assert f"There is no database {tmp_path}/data/jobs.db yet: it is created." in made.stderr
    assert made.exit_code == 0, made.stderr
    [told] = made.stdout.split()
    found = parse_key(told)
    assert found is not None
    assert f"Key {found[0]} of alice, scopes read, submit; it expires at " in made.stderr
    assert told not in made.stderr
    store = JobStore(f"sqlite:///{tmp_path}/data/jobs.db")
    [key] = store.keys.all()
    store.database.close()
    assert key.matches(found[1])
    assert key.expires_at == pytest.approx(key.created_at + 30 * 24 * 3600)


def test_keys_are_listed_rotated_and_revoked(tmp_path: Path) -> None:
    _run(tmp_path, "create", "--owner", "alice", "--scope", "admin")
    [key] = _list(tmp_path)
    assert (key["owner"], key["scopes"], key["status"], key["expires_at"]) == ("alice", ["admin"], "valid", None)
    rotated = _run(tmp_path, "rotate", str(key["id"]), "--overlap-hours", "0")
    assert rotated.exit_code == 0, rotated.stderr
    old, new = sorted(_list(tmp_path), key=lambda item: item["id"] != key["id"])
    assert [old["status"], new["status"]] == ["expired", "valid"]
    assert f"wan22_{new['id']}_" in rotated.stdout
    assert _run(tmp_path, "revoke", str(new["id"])).stdout == f"The key {new['id']} of alice is revoked.\n"
    table = _run(tmp_path, "list").stdout
    assert table.splitlines()[0].split() == [
        "key",
        "owner",
        "scopes",
        "status",
        "created",
        "expires",
        "last",
        "used",
        "limits",
    ]
    assert "revoked" in table
    assert rotated.stdout.strip() not in table


def test_the_database_is_found_in_a_config_or_named_by_its_url(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    url = f"sqlite:///{tmp_path}/other.db"
    config["applications"][0]["args"]["database_url"] = url
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    by_config = ["--config", str(tmp_path / "config.yaml")]
    runner = CliRunner()
    assert runner.invoke(app, ["keys", "create", "--owner", "alice", *by_config]).exit_code == 0
    listed = runner.invoke(app, ["keys", "list", "--json", "--database-url", url])
    assert [key["owner"] for key in json.loads(listed.stdout)] == ["alice"]


def test_a_key_has_limits_which_its_successor_inherits(tmp_path: Path) -> None:
    limits = ["--limit", "pending_jobs=5", "--limit", "gpu_seconds_per_day=none"]
    assert _run(tmp_path, "create", "--owner", "alice", *limits).exit_code == 0
    [key] = _list(tmp_path)
    assert key["limits"] == {"pending_jobs": 5, "gpu_seconds_per_day": None}
    assert "pending_jobs=5,gpu_seconds_per_day=none" in _run(tmp_path, "list").stdout.replace("\n", "")
    assert _run(tmp_path, "rotate", str(key["id"])).exit_code == 0
    assert [item["limits"] for item in _list(tmp_path)] == [key["limits"]] * 2


@pytest.mark.parametrize(
    "arguments", [["list"], ["rotate", "x"], ["revoke", "x"], ["rotate-links"], ["create", "--owner", "alice"]]
)
def test_a_mistyped_data_folder_is_reported_and_not_created(arguments: list[str], tmp_path: Path) -> None:
    for option in (["--data-dir", f"{tmp_path}/dtaa"], ["--database-url", f"sqlite:///{tmp_path}/dtaa/jobs.db"]):
        result = CliRunner().invoke(app, ["keys", *arguments, *option])
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"There is no database {tmp_path}/dtaa/jobs.db" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_only_a_first_key_makes_a_database(tmp_path: Path) -> None:
    result = _run(tmp_path, "list")
    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert _run(tmp_path, "create", "--owner", "alice").exit_code == 0
    assert len(_list(tmp_path)) == 1


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["create", "--owner", "a", "--limit", "jobs=5"], "'jobs=5' is no limit: expected NAME=VALUE.", 2),
        (["create", "--owner", "a", "--limit", "pending_jobs=0"], "pending_jobs: Input should be greater", 2),
        (["create", "--owner", "a b"], "owner: 'a b' is no name of an owner.", 2),
        (["create", "--owner", "a", "--scope", "root"], "root", 2),
        (["create", "--owner", "a", "--expires-days", "0"], "--expires-days", 2),
        (["revoke", "nobody"], "There is no API key with the id 'nobody'.", 1),
        (["rotate", "nobody"], "wan22 keys list", 1),
        (["list", "--database-url", "mysql://x"], "database_url: 'mysql' is not supported", 2),
        (["list", "--database-url", "sqlite:////proc/version"], "Cannot open the database", 1),
        (["list", "--config", "none.yaml"], "none.yaml cannot be read", 2),
    ],
)
def test_a_wrong_call_is_explained(arguments: list[str], message: str, status: int, tmp_path: Path) -> None:
    write_database(tmp_path)
    result = _run(tmp_path, *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr


@pytest.mark.parametrize("form", ["--api-key", "WAN22_API_KEY"])
def test_commands_send_the_key(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_api(tmp_path, allow_anonymous=False) as url:
        refused = CliRunner().invoke(app, ["jobs", "--url", url])
        assert refused.exit_code == 2
        assert "This service needs a valid API key." in refused.stderr
        assert "--api-key" in refused.stderr
        store = JobStore(f"sqlite:///{tmp_path}/data/jobs.db")
        key = store.keys.create("alice", [Scope.READ])[1]
        store.database.close()
        options = ["--api-key", key] if form.startswith("--") else []
        if not options:
            monkeypatch.setenv(form, key)
        wait_until(lambda: _succeeds(["jobs", "--url", url, *options]))
        for command in (["queue"], ["outputs", "list"], ["webhooks", "list"], ["loras", "list"]):
            assert _succeeds([*command, "--url", url, *options])
        lacking = CliRunner().invoke(app, ["queue", "pause", "--url", url, *options])
        assert lacking.exit_code == 2
        assert "The API key lacks the scope admin." in lacking.stderr


def _succeeds(arguments: list[str]) -> bool:
    """Calls a command. The service notices a new key after two seconds."""
    return CliRunner().invoke(app, arguments).exit_code == 0


@pytest.mark.parametrize("key", ["a b", "a\nb", "ä"])
def test_a_text_that_no_header_can_hold_is_no_key(key: str) -> None:
    result = CliRunner().invoke(app, ["jobs", "--api-key", key])
    assert result.exit_code == 2
    assert "holds characters that no key has" in result.stderr
