"""Models that are not on the machine are downloaded for the jobs that need them, from a hub that fails at times."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from diffusers import WanTransformer3DModel

from tests.hub import REPOSITORY, Fault, HubServer, serving_hub
from tests.service import Service, running_service, wait_until
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.fetching import FetchProgress, fetch_model

BIG = "transformer/diffusion_pytorch_model.safetensors"
MODELS: list[Any] = [
    "tiny-t2v",
    {"id": "from-hub", "like": "tiny-ti2v", "repository": REPOSITORY},
    {"id": "corrupted", "like": "tiny-ti2v", "repository": REPOSITORY},
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    folder = tmp_path_factory.mktemp("hub") / "model"
    shutil.copytree(ensure_tiny_model(tmp_path_factory.mktemp("models"), "ti2v"), folder)
    transformer = WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32)
    transformer.save_pretrained(folder / "transformer")
    with serving_hub(folder) as server:
        yield server


@pytest.fixture(scope="module")
def service(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a model that is not on the machine, and one with a corrupted file."""
    folder = tmp_path_factory.mktemp("downloads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        corrupted = folder / "data" / "models" / "corrupted"
        fetch_model(REPOSITORY, None, corrupted, FetchProgress())
        content = (corrupted / BIG).read_bytes()
        (corrupted / BIG).write_bytes(b"\xff" * 64 + content[64:])
        hub.asked.clear()
        with running_service(folder, models=MODELS) as running:
            yield running


def is_downloaded_to(service: Service, task_id: str, percent: float) -> bool:
    """Whether the download of a pending job's model has reached a percentage."""
    task = service.task(task_id)
    return bool(task["stage"] == "downloading_model" and task["progress"] >= percent)


def test_only_a_corrupted_file_is_downloaded_again_for_a_job(hub: HubServer, service: Service) -> None:
    folder = service.data_dir / "models" / "corrupted"
    assert service.finished(model_type="corrupted")["attempt"] == 1
    _verify_and_download_by_request(service, folder)
    assert (folder / BIG).read_bytes() == (hub.folder / BIG).read_bytes()
    assert hub.asked == {BIG: 1, "vae/config.json": 1}


def test_jobs_wait_for_a_download_without_occupying_a_generator(hub: HubServer, service: Service) -> None:
    hub.ranges.clear()
    _fail_with_the_reason(hub, service)
    _stop_with_the_last_job(hub, service)
    waiting = service.submit(model_type="from-hub")
    wait_until(lambda: is_downloaded_to(service, waiting, 20))
    [downloader] = service.replicas("downloader")
    downloader.kill()
    psutil.wait_procs([downloader])
    task = service.wait_for(waiting, "completed", "failed")
    assert (task["status"], task["attempt"]) == ("completed", 1)
    assert len([start for name, start in hub.ranges if name == BIG]) >= 2, (
        "each download must resume where the previous one stopped"
    )


def _fail_with_the_reason(hub: HubServer, service: Service) -> None:
    hub.describing.append(Fault(status=404))
    task = service.wait_for(service.submit(model_type="from-hub"), "completed", "failed")
    assert task["status"] == "failed"
    assert task["error"]["code"] == "hub_refused"
    assert REPOSITORY in task["error"]["message"]


def _stop_with_the_last_job(hub: HubServer, service: Service) -> None:
    hub.faults[BIG].extend([Fault(drip_seconds=0.004)] * 2)
    cancelled = service.submit(model_type="from-hub")
    wait_until(lambda: is_downloaded_to(service, cancelled, 20))
    task = service.task(cancelled)
    assert task["status"] == "pending"
    assert task["eta_seconds"] > 0
    assert service.finished(model_type="tiny-t2v")["attempt"] == 1
    assert service.task(cancelled)["stage"] == "downloading_model"
    with service.client() as client:
        there, coming = (client.get(f"/api/v1/models/status/{name}").json() for name in ("tiny-t2v", "TI2V-5B"))
        assert (there["status"], there["is_loaded"], len(there["replicas"])) == ("loaded", True, 1)
        assert (coming["model_id"], coming["status"], coming["is_cached"]) == ("from-hub", "downloading", False)
        assert 20 <= coming["download_progress"] < 100
        progress = client.get("/api/v1/models/download/progress").json()["from-hub"]
        assert progress["speed_mbps"] > 0
        summary = client.get("/api/v1/models/summary").json()
        assert (summary["models"]["tiny-t2v"], summary["models"]["from-hub"]) == ("loaded", "downloading")
        assert "tiny-t2v" in [model["model"] for replica in summary["replicas"] for model in replica["models"]]
        [dispatcher] = service.replicas("dispatcher")
        dispatcher.kill()
        assert client.post(f"/api/v1/queue/{cancelled}/cancel").status_code == 200, (
            "the next dispatcher cancels the job"
        )
    wait_until(lambda: "The download of from-hub was stopped" in service.log.read_text())


def _verify_and_download_by_request(service: Service, folder: Path) -> None:
    with service.client() as client:
        found = client.post("/api/v1/models/verify/corrupted").json()
        assert (found["is_valid"], found["issues_found"]) == (True, [])
        (folder / "vae/config.json").write_text("{}")
        found = client.post("/api/v1/models/verify/corrupted").json()
        assert found["issues_found"] == ["vae/config.json: wrong_size"]
        assert found["is_valid"]
        assert found["recovery_successful"]
        assert client.get("/api/v1/models/status/corrupted").json()["status"] in ("available", "loaded")
        done = client.post("/api/v1/models/download", json={"model_type": "corrupted"}).json()
        assert done["status"] == "available"
        missing = client.get("/api/v1/models/status/nothing")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_model")
        assert client.post("/api/v1/models/download/corrupted/cancel").json()["status"] == "available"
