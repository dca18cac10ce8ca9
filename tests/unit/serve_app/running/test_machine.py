"""A machine that cannot run the service is reported with the key of the config that names the problem."""

import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.jobs.api_keys import Scope
from deployments.jobs.store import JobStore
from serve_app.running.config import load_config
from serve_app.running.machine import check_machine
from serve_app.settings import Settings
from tests.bucket import serving_bucket
from tests.service import ROOT
from wan22_bridge.errors import ConfigurationError


def _load(
    folder: Path, *, port: int = 0, data_dir: Path | None = None, host: str | None = "127.0.0.1", **args: Any
) -> tuple[dict[str, Any], Settings]:
    """Loads the project's config with changed `args:`, and with another host or none."""
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["http_options"] = {"host": host} if host else {}
    config["applications"][0]["args"] |= args
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return load_config(path, port=port, data_dir=data_dir or folder)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        expected = rf"http_options\.port: cannot listen on 127\.0\.0\.1:{port}: Address already in use"
        with pytest.raises(ConfigurationError, match=expected):
            check_machine(*_load(tmp_path, port=port))


def test_a_data_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="data_dir: Cannot write to"):
        check_machine(*_load(tmp_path, data_dir=tmp_path / "file" / "data"))


def test_a_missing_bucket_is_named_with_a_suggestion(tmp_path: Path) -> None:
    with (
        serving_bucket(),
        pytest.raises(ConfigurationError, match=r"storage_url: .*bucket does not exist\. Check that the"),
    ):
        check_machine(*_load(tmp_path, storage_url="s3://no-such"))


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/none", "sqlite:////proc/none/jobs.db", "nonsense"])
def test_a_database_that_does_not_answer_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="database_url"):
        check_machine(*_load(tmp_path, database_url=url))


def test_a_missing_secret_of_webhooks_is_named(tmp_path: Path) -> None:
    loaded = _load(tmp_path, webhooks={"secret_env": "WAN22_NO_SUCH_VARIABLE"})
    with pytest.raises(ConfigurationError, match=r"webhooks\.secret_env: .* WAN22_NO_SUCH_VARIABLE holds no secret"):
        check_machine(*loaded)


@pytest.mark.parametrize("host", ["0.0.0.0", None], ids=str)
def test_a_service_that_others_can_reach_needs_a_first_key(host: str | None, tmp_path: Path) -> None:
    loaded = _load(tmp_path, host=host)
    expected = r"http_options\.host: a service that listens on 0\.0\.0\.0 needs API keys.*wan22 keys create --owner"
    with pytest.raises(ConfigurationError, match=expected):
        check_machine(*loaded)
    check_machine(*_load(tmp_path, host=host, allow_anonymous=True))
    store = JobStore(str(loaded[1].database_url))
    key, _ = store.keys.create("alice", [Scope.READ])
    check_machine(*loaded)
    store.keys.revoke(key.id)
    store.database.close()
    with pytest.raises(ConfigurationError, match="has no valid one"):
        check_machine(*loaded)


def test_a_service_on_loopback_needs_no_key_unless_the_settings_ask_for_keys(tmp_path: Path) -> None:
    check_machine(*_load(tmp_path))
    with pytest.raises(ConfigurationError, match="a service that listens on 127"):
        check_machine(*_load(tmp_path, allow_anonymous=False))
