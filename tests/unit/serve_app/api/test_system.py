"""Health, use, history and hardware of the machine. Replicas are rows in the registry, as generators report them."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession

from deployments.jobs.replica_registry import GpuUse, LoadedInfo, ReplicaInfo, ReplicaRegistry
from deployments.jobs.stats_history import Use
from deployments.jobs.store import JobStore
from serve_app.api import health
from serve_app.api.application import make_api
from serve_app.api.services import Services
from tests.rejections import check_rejection
from tests.service import SMALL
from wan22_bridge.machine import read_ram
from wan22_bridge.plans import GIB, HardwareProfile

URL = "/api/v1/system"
USED, TOTAL, BUSY = 30_000.0, 80_000.0, 40.0


def _report(services: Services, replica: str, *uuids: str, model: str = "tiny-t2v") -> None:
    """Stores the report of a replica with these GPUs."""
    gpus = [
        GpuUse(
            uuid=uuid,
            name="NVIDIA H100",
            driver_version="570.1",
            gpu_percent=BUSY,
            vram_used_mb=USED,
            vram_total_mb=TOTAL,
        )
        for uuid in uuids
    ]
    hardware = HardwareProfile(
        device="cuda",
        name="NVIDIA H100",
        vram_total_bytes=80 * 10**9,
        vram_free_bytes=79 * 10**9,
        compute_capability=(9, 0),
        ram_total_bytes=64 * GIB,
        ram_available_bytes=60 * GIB,
        disk_free_bytes=100 * GIB,
        gpu_count=len(uuids),
    )
    services.replicas.report(
        ReplicaInfo(
            id=replica,
            deployment="generator",
            node="node-1",
            process_id=1,
            device=hardware.name,
            job_id=None,
            models=[LoadedInfo(model=model, plan=[], load_seconds=1.0, vram_mb=5.0)],
            hardware=hardware,
            torch_version="2.13.0",
            cuda_version="13.0",
            gpus=gpus,
        )
    )


def test_without_a_gpu_its_figures_are_zero(client: TestClient) -> None:
    stats = client.get(f"{URL}/stats").json()
    assert 0 < stats["ram_used_gb"] < stats["ram_total_gb"]
    assert stats["ram_percent"] == pytest.approx(100 * stats["ram_used_gb"] / stats["ram_total_gb"])
    assert 0 <= stats["cpu_percent"] <= 100
    assert [stats[name] for name in ("gpu_percent", "vram_used_mb", "vram_total_mb", "vram_percent")] == [0.0] * 4
    assert (stats["gpus"], stats["models"]) == ([], {})


def test_each_gpu_is_counted_once_and_models_name_their_replicas(client: TestClient, services: Services) -> None:
    _report(services, "a", "GPU-1")
    _report(services, "b", "GPU-1", "GPU-2")
    stats = client.get(f"{URL}/stats").json()
    assert [(gpu["uuid"], gpu["replicas"]) for gpu in stats["gpus"]] == [("GPU-1", ["a", "b"]), ("GPU-2", ["b"])]
    assert stats["gpus"][0]["vram_percent"] == 37.5
    assert (stats["vram_used_mb"], stats["vram_total_mb"]) == (2 * USED, 2 * TOTAL)
    assert (stats["gpu_percent"], stats["vram_percent"]) == (BUSY, 37.5)
    assert stats["models"] == {"tiny-t2v": {"vram_mb": 10.0, "replicas": ["a", "b"]}}


def test_the_history_has_the_recorded_points_with_their_percentages(client: TestClient, services: Services) -> None:
    use = Use(cpu_percent=12, ram_used_gb=4, ram_total_gb=16, gpu_percent=5, vram_used_mb=1, vram_total_mb=4)
    services.store.stats.add("here", use)
    found = client.get(f"{URL}/stats/history").json()
    [point] = found["points"]
    assert (found["hours"], found["interval_seconds"]) == (24, 180)
    assert datetime.fromisoformat(point["timestamp"]).tzinfo is not None
    assert (point["cpu_percent"], point["ram_percent"], point["vram_percent"]) == (12, 25, 25)
    assert client.get(f"{URL}/stats/history", params={"hours": 0.5}).json()["interval_seconds"] == 60
    assert client.get(f"{URL}/stats/history", params={"hours": 168}).json()["interval_seconds"] == 1260


@pytest.mark.parametrize("hours", ["0", "-1", "1e9", "168.01", "nan", "inf", "-inf", "x", "", "9" * 20_000])
def test_wrong_hours_are_rejected_by_name(client: TestClient, hours: str) -> None:
    error = check_rejection(client.get(f"{URL}/stats/history", params={"hours": hours}), 400, "invalid_value")
    assert error["param"] == "hours"
    assert len(error["message"]) < 300


def test_the_hardware_is_what_the_generators_reported(client: TestClient, services: Services) -> None:
    profile = client.get(f"{URL}/hardware/profile").json()
    assert (profile["gpus"], profile["generators"]) == ([], [])
    assert profile["cpu_threads"] >= profile["cpu_cores"] >= 1
    assert profile["cpu_name"]
    _report(services, "a", "GPU-1")
    profile = client.get(f"{URL}/hardware/profile").json()
    assert [gpu["name"] for gpu in profile["gpus"]] == ["NVIDIA H100"]
    [generator] = profile["generators"]
    assert (generator["device"], generator["gpu_count"], generator["compute_capability"]) == ("cuda", 1, "9.0")
    assert (generator["driver_version"], generator["torch_version"], generator["cuda_version"]) == (
        "570.1",
        "2.13.0",
        "13.0",
    )


@pytest.mark.parametrize(("host", "port"), [("studio.local:8123", 8123), ("studio.local", 80)])
def test_the_ports_are_those_of_the_clients_address(client: TestClient, host: str, port: int) -> None:
    found = client.get(f"{URL}/ports", headers={"host": host}).json()
    assert found == {"backend_port": port, "frontend_port": port, "status": "running"}


@contextmanager
def _with_dispatcher(services: Services, *unhealthy: str, answers: bool = True) -> Iterator[TestClient]:
    async def check_health() -> None:
        if not answers:
            raise TimeoutError

    async def unhealthy_deployments() -> list[str]:
        return list(unhealthy)

    dispatcher: Any = SimpleNamespace(
        check_health=SimpleNamespace(remote=check_health),
        unhealthy_deployments=SimpleNamespace(remote=unhealthy_deployments),
    )
    with TestClient(make_api(replace(services, dispatcher=dispatcher))) as running:
        yield running


def test_a_service_whose_parts_work_is_healthy(services: Services) -> None:
    with _with_dispatcher(services) as client:
        client.post("/api/v1/generation/submit", json=SMALL)
        report = client.get(f"{URL}/health").json()
        assert (report["status"], report["message"]) == ("healthy", "All parts of the service work.")
        assert (report["backend_online"], report["database_connected"], report["gpu_available"]) == (True, True, False)
        assert (report["active_tasks"], report["gpu_memory_usage"]) == (1, None)
        assert 0 < report["memory_usage"] < 100
        assert report["uptime"] > 0
        _report(services, "a", "GPU-1")
        report = client.get(f"{URL}/health").json()
        assert (report["gpu_available"], report["gpu_memory_usage"]) == (True, 37.5)


def test_a_gpu_is_available_while_the_generators_are_scaled_to_zero(services: Services) -> None:
    generator = services.settings.generator.model_copy(update={"num_gpus": 1})
    settings = services.settings.model_copy(update={"generator": generator})
    with _with_dispatcher(replace(services, settings=settings)) as client:
        report = client.get(f"{URL}/health").json()
    assert (report["gpu_available"], report["gpu_memory_usage"]) == (True, None)


def test_failing_replicas_make_the_service_degraded(services: Services) -> None:
    with _with_dispatcher(services, "generator-T2V-A14B") as client:
        report = client.get(f"{URL}/health").json()
        assert report["status"] == "degraded"
        assert "generator-T2V-A14B" in report["message"]
        assert client.get("/readyz").status_code == 200


def test_a_dispatcher_that_does_not_answer_makes_the_service_unhealthy(services: Services) -> None:
    with _with_dispatcher(services, answers=False) as client:
        answer = client.get(f"{URL}/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "unhealthy")
        assert "dispatcher does not respond" in answer.json()["message"]
        check_rejection(client.get("/readyz"), 503, "dispatcher_unavailable")


def test_a_lost_database_makes_the_service_unhealthy(services: Services) -> None:
    with _with_dispatcher(services) as client:
        services.store.database.close()
        path = services.settings.data_dir / "jobs.db"
        path.rename(path.with_name("moved.db"))
        path.mkdir()
        answer = client.get(f"{URL}/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "unhealthy")
        assert answer.json()["database_connected"] is False
        assert "database can't be reached" in answer.json()["message"]
        assert answer.json()["active_tasks"] == 0


def test_a_database_that_does_not_answer_makes_the_service_unhealthy(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = JobStore(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/jobs", migrate=False)
        services = replace(services, store=store, replicas=ReplicaRegistry(store.database))
        with _with_dispatcher(services) as client, ThreadPoolExecutor() as threads:
            answering = threads.submit(client.get, f"{URL}/health")
            try:
                answer = answering.result(timeout=30)
            finally:
                silent.close()  # which ends the waiting queries
        assert (answer.status_code, answer.json()["status"]) == (200, "unhealthy")
        assert (answer.json()["database_connected"], answer.json()["active_tasks"]) == (False, 0)


def test_a_data_folder_that_is_gone_makes_the_service_unhealthy(services: Services) -> None:
    with _with_dispatcher(services) as client:
        folder = services.settings.data_dir
        folder.rename(folder.with_name("unmounted"))
        answer = client.get(f"{URL}/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "unhealthy")
        assert "data folder can't be read: No such file or directory" in answer.json()["message"]
        info = answer.json()["system_info"]
        assert (info["disk_free_gb"], info["disk_total_gb"]) == (None, None)


def test_the_cores_and_the_ram_are_those_that_the_service_may_use(services: Services) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # the threads of the API inherit it
    try:
        with _with_dispatcher(services) as client:
            profile, info = client.get(f"{URL}/hardware/profile").json(), client.get(f"{URL}/health").json()
    finally:
        os.sched_setaffinity(0, cores)
    assert (profile["cpu_cores"], profile["cpu_threads"], info["system_info"]["cpu_cores"]) == (1, 1, 1)
    assert profile["ram_total_gb"] == info["system_info"]["ram_total_gb"] == read_ram().total_bytes / 1e9
    assert profile["ram_available_gb"] <= profile["ram_total_gb"]


@pytest.mark.parametrize("path", ["health", "stats", "stats/history", "hardware/profile", "ports"])
def test_the_routes_only_read(client: TestClient, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = client.request(method, f"{URL}/{path}", json="x" * 1_000_000)
        check_rejection(answer, 405, "method_not_allowed")


def _receive_stats(session: WebSocketTestSession, *kinds: str) -> dict[str, Any]:
    session.send_json({"type": "subscribe", "data": {"topic": "system_stats"}})
    found: dict[str, Any] = {}
    while not found.keys() >= set(kinds):
        message = session.receive_json()
        if message["type"] in ("system_stats_update", "vram_monitoring"):
            found[message["type"]] = message["data"]
    return found


def test_the_live_messages_have_the_same_figures(client: TestClient, services: Services) -> None:
    _report(services, "a", "GPU-1")
    with client.websocket_connect("/ws") as session:
        live = _receive_stats(session, "system_stats_update", "vram_monitoring")
    stats = client.get(f"{URL}/stats").json()
    assert set(live["system_stats_update"]) == set(stats)
    assert live["system_stats_update"]["gpus"] == live["vram_monitoring"]["gpus"] == stats["gpus"]
    assert live["vram_monitoring"]["vram_used_mb"] == USED
