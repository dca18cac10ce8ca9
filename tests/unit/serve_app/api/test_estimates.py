"""Estimates of jobs, and the rejection of jobs that fit no known GPU.

The hardware is what a generator would have reported: a row in the registry of replicas.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.jobs.job import JobState
from deployments.jobs.optimization_defaults import OptimizationDefaults
from deployments.jobs.replica_registry import ReplicaInfo
from serve_app.api.application import make_api
from serve_app.api.services import Services
from serve_app.settings import parse_settings
from tests.http_api import open_services
from tests.rejections import check_rejection
from wan22_bridge.options import QuantizationLevel
from wan22_bridge.planning.planner import Planner
from wan22_bridge.plans import GIB, HardwareProfile, RequestShape

SUBMIT, ESTIMATE = "/api/v1/generation/submit", "/api/v1/generation/estimate"
LARGE = {"prompt": "a fox", "model_type": "wan2.2-t2v-a14b", "resolution": "1280x704"}
TINY = {"prompt": "a fox", "model_type": "tiny-t2v"}


_OPEN = """
import sys, threading
from pathlib import Path
from serve_app.api.services import Services
from serve_app.settings import Settings

settings = Settings(data_dir=Path(sys.argv[1]), generator={"num_gpus": float(sys.argv[2])}).with_absolute_paths()
Services.open(settings, dispatcher=None, downloader=None)
for thread in threading.enumerate():
    if thread.name == "import of the planner":
        thread.join()
print("torch" in sys.modules)
"""


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    models = [{"id": name} for name in ("tiny-t2v", "wan2.2-t2v-a14b")]
    settings = parse_settings({"data_dir": tmp_path / "data", "models": models}).with_absolute_paths()
    opened = open_services(settings)
    yield opened
    opened.store.database.close()


def report(services: Services, *, gpu_gb: float, ram_gb: float = 32, disk_gb: int = 100) -> None:
    """Stores the report of a generator with a GPU, or with a CPU for 0 GB."""
    on_gpu = gpu_gb > 0
    hardware = HardwareProfile(
        device="cuda" if on_gpu else "cpu",
        name="small GPU" if on_gpu else "CPU",
        vram_total_bytes=int(gpu_gb * GIB),
        vram_free_bytes=int(gpu_gb * GIB),
        compute_capability=(8, 9) if on_gpu else None,
        ram_total_bytes=int(ram_gb * GIB),
        ram_available_bytes=int(ram_gb * GIB),
        disk_free_bytes=disk_gb * GIB,
    )
    services.replicas.report(
        ReplicaInfo(
            id="replica",
            deployment="generator",
            node="here",
            process_id=1,
            device=hardware.name,
            job_id=None,
            models=[],
            hardware=hardware,
        )
    )


def test_without_known_hardware_every_job_is_taken_and_fits_is_null(client: TestClient) -> None:
    estimate = client.post(ESTIMATE, json=LARGE).json()

    assert estimate["fits"] is None
    assert estimate["peak_memory_mb"] is None
    assert estimate["queue_position"] == 1
    assert estimate["wait_seconds"] == 0
    assert client.post(SUBMIT, json=LARGE).status_code == 200


def test_an_estimate_stores_nothing_and_counts_the_jobs_before_it(client: TestClient, services: Services) -> None:
    for priority in ("low", "normal", "high"):
        assert client.post(SUBMIT, json=TINY | {"priority": priority}).status_code == 200

    positions = {
        priority: client.post(ESTIMATE, data=TINY | {"priority": priority}).json()["queue_position"]
        for priority in ("low", "normal", "high")
    }

    assert positions == {"low": 4, "normal": 3, "high": 2}
    assert services.store.reader.count()[JobState.PENDING] == 3


def test_an_invalid_estimate_is_rejected_as_its_submission_would_be(client: TestClient) -> None:
    assert check_rejection(client.post(ESTIMATE, json=TINY | {"steps": 0}), 400, "invalid_value")["param"] == "steps"


def test_a_job_that_fits_no_known_gpu_is_rejected_with_a_lower_resolution(
    client: TestClient, services: Services
) -> None:
    report(services, gpu_gb=8)

    estimate = client.post(ESTIMATE, json=LARGE).json()
    report(services, gpu_gb=8)  # on a busy machine the measurement can outlast a report
    error = check_rejection(client.post(SUBMIT, json=LARGE), 400, "vram_insufficient")

    assert estimate["fits"] is False
    assert estimate["reasons"] == [error["message"]]
    assert estimate["suggestions"] == error["suggestions"] == ["1104x608 with 81 frames fits."]
    assert services.store.reader.count()[JobState.PENDING] == 0
    report(services, gpu_gb=8)
    smaller = client.post(ESTIMATE, json=LARGE | {"resolution": "1104x608"}).json()
    assert smaller["fits"] is True
    assert 0 < smaller["peak_memory_mb"] <= 8 * GIB / 1e6
    assert "vae tiles of 512 px" in smaller["plan"]


def test_a_cpu_service_rejects_no_size(client: TestClient, services: Services) -> None:
    report(services, gpu_gb=0, ram_gb=1)

    assert client.post(SUBMIT, json=LARGE).status_code == 200


def test_a_limit_on_gpu_memory_decides_whether_a_job_fits(client: TestClient, services: Services) -> None:
    report(services, gpu_gb=80, ram_gb=128)

    assert client.post(ESTIMATE, json=TINY).json()["fits"] is True
    report(services, gpu_gb=80, ram_gb=128)  # the first check imports torch, during which a report can expire
    error = check_rejection(client.post(SUBMIT, json=TINY | {"max_vram_usage_gb": 0.5}), 400, "vram_insufficient")
    assert "Raise max_vram_usage_gb above 0.5, or leave it out." in error["suggestions"]


def test_tiles_and_offloading_are_in_the_plan(client: TestClient, services: Services) -> None:
    report(services, gpu_gb=80, ram_gb=128)

    estimate = client.post(ESTIMATE, json=TINY | {"vae_tile_size": 300, "enable_offload": True}).json()

    assert "vae tiles of 256 px" in estimate["plan"]
    assert "vae on demand" in estimate["plan"]
    assert client.post(ESTIMATE, json=TINY).json()["plan"] == []


def test_a_quantization_that_is_not_served_is_rejected_by_name(client: TestClient, services: Services) -> None:
    fields = TINY | {"quantization_level": "fp16"}
    error = check_rejection(client.post(SUBMIT, json=fields), 400, "quantization_not_served")
    assert error["param"] == "quantization_level"
    assert error["suggestions"] == ["Use one of: auto, none, bf16, fp8, int8."]

    report(services, gpu_gb=0)
    fields = TINY | {"quantization_level": "bf16"}
    check_rejection(client.post(ESTIMATE, json=fields), 400, "quantization_not_served")


def test_stored_defaults_apply_to_requests_that_leave_them_open(client: TestClient, services: Services) -> None:
    defaults = OptimizationDefaults(quantization=QuantizationLevel.FP8, vae_tile_size=256)
    OptimizationDefaults.change(services.store.settings, lambda _: defaults)

    task_id = client.post(SUBMIT, json=TINY | {"vae_tile_size": 128}).json()["task_id"]

    params = services.store.reader.get(task_id).params
    assert params.quantization_level is QuantizationLevel.FP8
    assert params.vae_tile_size == 128
    assert params.enable_offload is None


def test_a_model_is_compatible_with_hardware_that_its_smallest_size_fits(services: Services) -> None:
    tiny, large = services.served
    assert services.fitting.fit_smallest(large).fits is None, "no hardware is known"
    report(services, gpu_gb=3, ram_gb=8)
    assert services.fitting.fit_smallest(tiny).fits
    assert services.fitting.fit_smallest(large).fits is False
    report(services, gpu_gb=80, ram_gb=256)
    fit = services.fitting.fit_smallest(large)
    assert fit.fits, "the machine is another one"
    assert fit.peak_bytes is not None
    assert 1e9 < fit.peak_bytes < 80e9


def test_a_restarted_replica_with_another_free_space_makes_no_new_plan(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny, planned = services.served[0], []
    make_plan = Planner.choose

    def choose(planner: Planner, shape: RequestShape) -> Any:
        planned.append(shape)
        return make_plan(planner, shape)

    monkeypatch.setattr(Planner, "choose", choose)
    for disk_gb in (100, 99, 98):
        report(services, gpu_gb=24, disk_gb=disk_gb)
        assert services.fitting.fit_smallest(tiny).fits
    assert len(planned) == 1
    report(services, gpu_gb=3)
    assert services.fitting.fit_smallest(tiny).fits
    assert len(planned) == 2


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(make_api(services)) as running:
        yield running


@pytest.mark.parametrize(("num_gpus", "imported"), [(0.5, True), (0, False)])
def test_only_a_service_with_gpus_imports_torch_before_the_first_submission(
    num_gpus: float, imported: bool, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, str(tmp_path), str(num_gpus)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(imported)]


def test_a_retry_of_a_job_that_no_longer_fits_is_rejected(client: TestClient, services: Services) -> None:
    task_id = client.post(SUBMIT, json=LARGE).json()["task_id"]
    mock_id = _submit_mock(client)
    for ended in (task_id, mock_id):
        assert client.post(f"/api/v1/queue/{ended}/cancel").status_code == 200
    report(services, gpu_gb=2, ram_gb=4)
    error = check_rejection(client.post(f"/api/v1/queue/{task_id}/retry"), 400, "vram_insufficient")
    assert error["suggestions"]
    assert client.get(f"/api/v1/generation/{task_id}").json()["status"] == "cancelled"
    assert client.post(f"/api/v1/queue/{mock_id}/retry").status_code == 200, "a mock video needs no GPU"
    report(services, gpu_gb=0)
    assert client.post(f"/api/v1/queue/{task_id}/retry").json()["status"] == "pending"


def _submit_mock(client: TestClient) -> str:
    client.put("/api/v1/system/generation-mode", json={"mode": "mock"}).raise_for_status()
    task_id: str = client.post(SUBMIT, json=LARGE).json()["task_id"]
    client.put("/api/v1/system/generation-mode", json={"mode": "real"}).raise_for_status()
    return task_id
