"""The stored defaults of optimizations, and the report of the plans that are in use."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.jobs.optimization_defaults import OptimizationDefaults, explain_defaults
from deployments.jobs.replica_registry import LoadedInfo, ReplicaInfo
from serve_app.api.services import Services
from tests.jobs import make_job
from tests.rejections import check_rejection
from tests.service import SMALL
from wan22_bridge.errors import GenerationFailed, OutOfMemory
from wan22_bridge.options import QuantizationLevel

URL, SUBMIT = "/api/v1/system/optimization", "/api/v1/generation/submit"
NOTHING: dict[str, Any] = {
    "quantization": "auto",
    "enable_offload": None,
    "vae_tile_size": None,
    "max_vram_usage_gb": None,
}


def _submitted(client: TestClient, services: Services, **fields: Any) -> Any:
    return services.store.reader.get(client.post(SUBMIT, json=SMALL | fields).json()["task_id"]).params


def test_nothing_is_stored_until_an_operator_sets_it(client: TestClient) -> None:
    assert client.get(URL).json() == NOTHING
    assert client.post(URL, json={}).json() == NOTHING


def test_a_change_keeps_the_other_fields_and_null_removes_a_default(client: TestClient) -> None:
    assert client.post(URL, json={"quantization": "int8", "vae_tile_size": 256}).json() == NOTHING | {
        "quantization": "int8",
        "vae_tile_size": 256,
    }
    assert client.post(URL, json={"enable_offload": False, "max_vram_usage_gb": 10.5}).json() == {
        "quantization": "int8",
        "enable_offload": False,
        "vae_tile_size": 256,
        "max_vram_usage_gb": 10.5,
    }
    changed = client.post(URL, json={"quantization": None, "vae_tile_size": None, "enable_offload": None}).json()
    assert changed == client.get(URL).json() == NOTHING | {"max_vram_usage_gb": 10.5}


@pytest.mark.parametrize("size", [128, 512, 256.0])
def test_the_limits_themselves_are_valid(client: TestClient, size: float) -> None:
    assert client.post(URL, json={"vae_tile_size": size}).json()["vae_tile_size"] == size


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quantization", "int4"),
        ("quantization", 8),
        ("quantization", ["fp8"]),
        ("quantization", "x" * 2_000_000),
        ("enable_offload", "yes"),
        ("enable_offload", 1),
        ("vae_tile_size", 127),
        ("vae_tile_size", 513),
        ("vae_tile_size", 256.5),
        ("vae_tile_size", "256"),
        ("vae_tile_size", True),
        ("max_vram_usage_gb", 0),
        ("max_vram_usage_gb", -1),
        ("max_vram_usage_gb", True),
        ("max_vram_usage_gb", "12"),
        ("max_vram_usage_gb", {}),
    ],
)
def test_a_wrong_value_is_rejected_by_name_and_changes_nothing(client: TestClient, field: str, value: Any) -> None:
    error = check_rejection(client.post(URL, json={field: value}), 400, "invalid_value")
    assert error["param"] == field
    assert len(error["message"]) < 300
    assert client.get(URL).json() == NOTHING


@pytest.mark.parametrize("content", ["", "[]", "3", '"fp8"', "{", '{"max_vram_usage_gb": NaN}', '{"a": 1e999}'])
def test_a_body_that_is_no_object_with_numbers_is_rejected(client: TestClient, content: str) -> None:
    answer = client.post(URL, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert client.get(URL).json() == NOTHING


def test_an_unknown_field_is_rejected_with_the_nearest_one(client: TestClient) -> None:
    error = check_rejection(client.post(URL, json={"vae_tile": 256}), 400, "unknown_field")
    assert "'vae_tile_size'" in error["message"]
    error = check_rejection(client.post(URL, json={"quantization_level": "fp8"}), 400, "unknown_field")
    assert "'quantization'" in error["message"]
    error = check_rejection(client.post(URL, json={"z" * 100_000: 1}), 400, "unknown_field")
    assert len(error["message"]) < 200


def test_a_quantization_that_no_model_is_served_in_is_rejected_as_in_a_submission(client: TestClient) -> None:
    submitted = client.post(SUBMIT, json=SMALL | {"quantization_level": "fp16"})
    stored = client.post(URL, json={"quantization": "fp16"})
    error = check_rejection(stored, 400, "quantization_not_served")
    assert error["param"] == "quantization"
    assert error["suggestions"] == check_rejection(submitted, 400, "quantization_not_served")["suggestions"]


def test_a_request_gets_the_defaults_for_what_it_leaves_open(client: TestClient, services: Services) -> None:
    client.post(URL, json={"quantization": "int8", "enable_offload": True, "vae_tile_size": 256})
    filled = _submitted(client, services)
    assert (filled.quantization_level, filled.enable_offload, filled.vae_tile_size) == ("int8", True, 256)
    assert set(filled.stored_defaults) == {"quantization_level", "enable_offload", "vae_tile_size"}
    own = _submitted(client, services, quantization_level="none", enable_offload=False, vae_tile_size=128)
    assert (own.quantization_level, own.enable_offload, own.vae_tile_size) == ("none", False, 128)
    assert own.stored_defaults == ()


def test_a_default_that_a_model_is_not_served_in_is_named_in_the_error(client: TestClient, services: Services) -> None:
    defaults = OptimizationDefaults(quantization=QuantizationLevel.FP16)
    OptimizationDefaults.change(services.store.settings, lambda _: defaults)
    error = check_rejection(client.post(SUBMIT, json=SMALL), 400, "quantization_not_served")
    assert "stored defaults of the service: quantization_level fp16" in error["message"]
    assert "POST /api/v1/system/optimization" in error["suggestions"][-1]
    assert client.post(SUBMIT, json=SMALL | {"quantization_level": "fp8"}).status_code == 200


def test_errors_of_a_running_job_name_only_the_defaults_that_may_have_caused_them() -> None:
    params = OptimizationDefaults(max_vram_usage_gb=2.0).fill(make_job().params)
    error = OutOfMemory("It does not fit.", code="vram_insufficient")
    explain_defaults(error, params)
    assert "max_vram_usage_gb 2.0" in error.message
    other = GenerationFailed("The video is black.")
    explain_defaults(other, params)
    assert (other.message, other.suggestions) == ("The video is black.", [])
    own = OutOfMemory("It does not fit.", code="vram_insufficient")
    explain_defaults(own, make_job().params)
    assert own.message == "It does not fit."


def test_the_status_names_the_plan_of_each_replica(client: TestClient, services: Services) -> None:
    plan = ["fp8 weights", "vae on demand"]
    loaded = LoadedInfo(model="tiny-t2v", plan=plan, load_seconds=1.0, vram_mb=7.0, quantization="fp8")
    services.replicas.report(
        ReplicaInfo(
            id="r", deployment="generator", node="n", process_id=1, device="CPU", job_id="video_1", models=[loaded]
        )
    )
    client.post(URL, json={"vae_tile_size": 128})
    model = {"model": "tiny-t2v", "quantization": "fp8", "optimizations": plan, "vram_mb": 7.0}
    assert client.get(f"{URL}/status").json() == {
        "defaults": NOTHING | {"vae_tile_size": 128},
        "replicas": [{"replica": "r", "node": "n", "device": "CPU", "job_id": "video_1", "models": [model]}],
    }
