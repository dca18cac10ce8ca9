"""The system's routes of a running service."""

from collections.abc import Iterator

import pytest

from tests.service import Service, wait_until

_URL = "/api/v1/system"


@pytest.fixture
def stored_defaults(service: Service) -> Iterator[None]:
    with service.client() as client:
        client.post(f"{_URL}/optimization", json={"quantization": "int8", "vae_tile_size": 128}).raise_for_status()
        yield
        client.post(f"{_URL}/optimization", json={"quantization": None, "vae_tile_size": None}).raise_for_status()


def test_stored_defaults_reach_a_job_and_the_plan_of_its_replica(service: Service, stored_defaults: None) -> None:
    task = service.finished()
    assert task["result"]["quantization_used"] == "int8"
    assert "vae tiles of 128 px" in task["result"]["optimizations_applied"]
    assert task["result"]["parameters_used"]["stored_defaults"] == ["vae_tile_size", "quantization_level"]
    with service.client() as client:

        def quantizations() -> list[str]:
            status = client.get(f"{_URL}/optimization/status").json()
            assert status["defaults"]["vae_tile_size"] == 128
            return [
                model["quantization"]
                for replica in status["replicas"]
                for model in replica["models"]
                if model["model"] == task["result"]["model_used"]
            ]

        assert wait_until(lambda: "int8" in quantizations(), seconds=30)
        stats = client.get(f"{_URL}/stats").json()
        assert stats["models"][task["result"]["model_used"]]["replicas"]
        generators = client.get(f"{_URL}/hardware/profile").json()["generators"]
        assert {generator["device"] for generator in generators} == {"cpu"}
        assert all(generator["torch_version"] for generator in generators)


def test_the_dispatcher_records_the_history(service: Service) -> None:
    with service.client() as client:
        points = wait_until(lambda: client.get(f"{_URL}/stats/history").json()["points"])
        assert 0 < points[-1]["ram_percent"] < 100
        assert points[-1]["vram_total_mb"] == 0


def test_a_running_service_is_healthy_on_its_own_port(service: Service) -> None:
    with service.client() as client:
        health = client.get(f"{_URL}/health").json()
        assert health["status"] in ("healthy", "degraded"), health["message"]  # the disk may be nearly full
        assert health["database_connected"]
        assert client.get(f"{_URL}/ports").json() == {
            "backend_port": service.port,
            "frontend_port": service.port,
            "status": "running",
        }
