"""The routes for LoRAs: uploads, listings, descriptions and deletions, and their errors."""

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import save

from deployments.jobs.replica_registry import GpuUse, ReplicaInfo
from deployments.jobs.store import JobStore
from serve_app.api.services import Services
from tests.http_api import open_api
from tests.rejections import check_rejection

WIDTH = 192
BUILT_IN = ["tiny-lightning-i2v", "tiny-lightning-t2v", "tiny-lightning-ti2v", "tiny-neon"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[TestClient]:
    with open_api(tmp_path) as client:
        yield client


def lora(*, width: int = WIDTH, rank: int = 4, metadata: dict[str, str] | None = None) -> bytes:
    key = "transformer.blocks.0.attn1.to_q.lora_{}.weight"
    down, up = np.zeros((rank, width), np.float16), np.zeros((width, rank), np.float16)
    return save({key.format("A"): down, key.format("B"): up}, metadata)


def upload(api: TestClient, data: bytes | None = None, *, file_name: str = "style.safetensors", **fields: str) -> Any:
    return api.post("/api/v1/lora/upload", files={"file": (file_name, lora() if data is None else data)}, data=fields)


def submit(api: TestClient, **fields: Any) -> Any:
    return api.post("/api/v1/generation/submit", json={"prompt": "a cat", "model_type": "t2v"} | fields)


def own_files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "data" / "loras").glob("*.safetensors"))


def test_an_uploaded_lora_is_stored_listed_used_and_deleted(api: TestClient, tmp_path: Path) -> None:
    data = lora(metadata={"modelspec.trigger_phrase": "neon glow", "modelspec.architecture": "wan2.2-t2v/lora"})
    stored = upload(api, data, file_name="My Style v1.2.safetensors")
    assert stored.status_code == 200, stored.text
    body = stored.json()
    assert (body["success"], body["lora_name"]) == (True, "My Style v1.2")
    assert body["file_path"] == "loras/My Style v1.2.safetensors"
    assert body["size_mb"] == round(len(data) / 1e6, 3)
    assert body["message"] == (
        "Stored My Style v1.2 for all experts. Models that can use it: tiny-t2v, tiny-i2v, tiny-ti2v."
    )
    assert (tmp_path / "data" / "loras" / "My Style v1.2.safetensors").read_bytes() == data

    listed = api.get("/api/v1/lora/list").json()
    assert [item["name"] for item in listed["loras"]] == ["My Style v1.2", *BUILT_IN]
    assert listed["total_count"] == 5
    found = listed["loras"][0]
    assert (found["trigger_words"], found["model_type"], found["rank"]) == (["neon glow"], "T2V-A14B", 4)
    assert (found["is_applied"], found["is_loaded"], found["current_strength"]) == (False, False, 0.0)
    assert found["experts"] == ["high_noise", "low_noise"]
    assert str(tmp_path) not in str(listed)

    assert submit(api, lora_path="My Style v1.2").status_code == 200
    check_rejection(api.delete("/api/v1/lora/My Style v1.2"), 409, "lora_in_use")
    task = api.get("/api/v1/lora/My Style v1.2/status").json()["jobs"][0]
    assert api.post(f"/api/v1/queue/{task}/cancel").status_code == 200
    assert api.delete("/api/v1/lora/My Style v1.2").json() == {"message": "Deleted."}
    assert own_files(tmp_path) == []
    check_rejection(api.get("/api/v1/lora/My Style v1.2/status"), 404, "lora_not_found")


@pytest.mark.parametrize(
    ("file_name", "fields", "stored", "experts"),
    [
        ("a_HIGH_fp16.safetensors", {}, "a_fp16.high_noise.safetensors", "the high-noise expert"),
        ("a.low_noise.safetensors", {}, "a.low_noise.safetensors", "the low-noise expert"),
        ("a-high.safetensors", {"expert": "both"}, "a.safetensors", "all experts"),
        ("a.safetensors", {"expert": "low_noise"}, "a.low_noise.safetensors", "the low-noise expert"),
        ("a_LOW.safetensors", {"name": "other"}, "other.low_noise.safetensors", "the low-noise expert"),
        ("a.safetensors", {"name": "b.high_noise"}, "b.high_noise.safetensors", "the high-noise expert"),
        ("a.safetensors", {"name": "Ünïcode 2.0.safetensors"}, "Ünïcode 2.0.safetensors", "all experts"),
        ("C:\\loras\\a.safetensors", {}, "a.safetensors", "all experts"),
        ("../../a.safetensors", {}, "a.safetensors", "all experts"),
    ],
)
def test_the_names_tell_where_a_file_is_stored(
    file_name: str, fields: dict[str, str], stored: str, experts: str, api: TestClient, tmp_path: Path
) -> None:
    answer = upload(api, None, file_name=file_name, **fields)
    assert answer.status_code == 200, answer.text
    assert own_files(tmp_path) == [stored]
    assert f"for {experts}." in answer.json()["message"]


def test_two_files_become_a_pair(api: TestClient, tmp_path: Path) -> None:
    assert upload(api, file_name="a_HIGH.safetensors").status_code == 200
    assert upload(api, file_name="a_LOW.safetensors").status_code == 200
    found = api.get("/api/v1/lora/a/status").json()
    assert found["files"] == ["a.high_noise.safetensors", "a.low_noise.safetensors"]
    assert found["experts"] == ["high_noise", "low_noise"]
    check_rejection(upload(api, file_name="a_LOW.safetensors"), 409, "lora_exists")
    check_rejection(upload(api, file_name="a.safetensors"), 409, "lora_exists")
    assert upload(api, file_name="a.safetensors", replace="true").status_code == 200
    assert own_files(tmp_path) == ["a.safetensors"]
    assert upload(api, file_name="a_LOW.safetensors", replace="true").status_code == 200
    assert own_files(tmp_path) == ["a.low_noise.safetensors"]


def test_a_name_is_replaced_only_with_the_flag(api: TestClient, tmp_path: Path) -> None:
    assert upload(api).status_code == 200
    error = check_rejection(upload(api, lora(rank=8)), 409, "lora_exists")
    assert error["param"] == "name"
    assert "replace=true" in " ".join(error["suggestions"])
    assert api.get("/api/v1/lora/style/status").json()["rank"] == 4
    assert upload(api, lora(rank=8), replace="true").status_code == 200
    assert api.get("/api/v1/lora/style/status").json()["rank"] == 8
    check_rejection(upload(api, file_name="tiny-neon.safetensors"), 409, "lora_exists")


def test_a_lora_in_use_is_not_replaced(api: TestClient) -> None:
    upload(api)
    assert submit(api, loras=[{"name": "style"}]).status_code == 200
    error = check_rejection(upload(api, lora(rank=8), replace="true"), 409, "lora_in_use")
    assert error["can_retry"] is True
    assert api.get("/api/v1/lora/style/status").json()["rank"] == 4


@pytest.mark.parametrize(
    "name", ["a/b", "..", "../a", "a\\b", ".a", "a.", " ", "a" * 101, "a\nb", "a%", "a:b", "a\0", "字" * 80]
)
def test_a_name_that_is_no_file_name_is_rejected(name: str, api: TestClient, tmp_path: Path) -> None:
    error = check_rejection(upload(api, name=name), 400, "invalid_lora_name")
    assert error["param"] == "name"
    assert [path.name for path in (tmp_path / "data").rglob("*.safetensors")] == []


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (b"PK\x03\x04" + bytes(100), "lora_unreadable", "pickle"),
        (b"GGUF" + bytes(100), "lora_unreadable", "GGUF"),
        (struct.pack("<Q", 2**40) + bytes(100), "lora_unreadable", "header"),
        (b"short", "lora_unreadable", "5 bytes"),
        (lora()[:-10], "lora_unreadable", "its tensors need"),
        (lora(width=64), "lora_incompatible", "its width is 64"),
        (save({"blocks.0.self_attn.q.weight": np.zeros((4, 4))}), "lora_incompatible", "not a LoRA weight"),
        (save({"blocks.0.self_attn.q.lokr_w1": np.zeros((4, 4))}), "lora_incompatible", "LoKr"),
    ],
)
def test_an_upload_that_is_no_wan22_lora_is_rejected_by_its_kind(
    data: bytes, code: str, reason: str, api: TestClient, tmp_path: Path
) -> None:
    error = check_rejection(upload(api, data), 400, code)
    assert reason in error["message"]
    assert error["param"] == "file"
    assert own_files(tmp_path) == []


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"expert": "middle"}, "invalid_value", "expert"),
        ({"replace": "maybe"}, "invalid_value", "replace"),
        ({"strength": "1"}, "unknown_field", "strength"),
    ],
)
def test_a_wrong_upload_field_is_named(fields: dict[str, str], code: str, param: str, api: TestClient) -> None:
    assert check_rejection(upload(api, None, **fields), 400, code)["param"] == param


def test_an_upload_without_a_file_is_rejected(api: TestClient) -> None:
    bodies: list[dict[str, Any]] = [{"data": {"name": "a"}}, {"json": {}}, {"files": {"other": ("a", b"x")}}, {}]
    for body in bodies:
        check_rejection(api.post("/api/v1/lora/upload", **body), 400, "file_required")


def test_only_loras_may_be_larger_than_other_uploads(tmp_path: Path) -> None:
    large = lora(rank=40)
    assert 10_000 < len(large) < 100_000
    with open_api(tmp_path, max_upload_mb=0.01, max_lora_upload_mb=0.1) as api:
        assert upload(api, large).status_code == 200
        check_rejection(api.post("/api/v1/uploads", files={"file": ("a.png", large)}), 413, "payload_too_large")
        error = check_rejection(upload(api, lora(rank=200)), 413, "payload_too_large")
    assert "0.1 MB" in error["message"]


def test_the_remains_of_an_interrupted_upload_are_removed(api: TestClient, tmp_path: Path) -> None:
    upload(api)
    folder = tmp_path / "data" / "loras"
    old, new = folder / ".1f.safetensors", folder / ".2f.safetensors"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - 100_000))
    upload(api, file_name="other.safetensors")
    assert (old.exists(), new.exists()) == (False, True)
    assert [item["name"] for item in api.get("/api/v1/lora/list").json()["loras"][:2]] == ["other", "style"]


def test_a_built_in_lora_can_not_be_deleted(api: TestClient, tmp_path: Path) -> None:
    check_rejection(api.delete("/api/v1/lora/tiny-neon"), 409, "lora_built_in")
    assert upload(api, file_name="tiny-neon.safetensors", replace="true").status_code == 200
    assert api.get("/api/v1/lora/tiny-neon/status").json()["is_builtin"] is False
    assert api.delete("/api/v1/lora/tiny-neon").status_code == 200
    found = api.get("/api/v1/lora/tiny-neon/status").json()
    assert (found["is_builtin"], found["path"]) == (True, "builtin/tiny-neon.high_noise.safetensors")


def test_a_broken_file_is_not_listed_and_can_be_deleted(api: TestClient, tmp_path: Path) -> None:
    upload(api)
    (tmp_path / "data" / "loras" / "broken.safetensors").write_bytes(b"x")
    assert [item["name"] for item in api.get("/api/v1/lora/list").json()["loras"]] == ["style", *BUILT_IN]
    check_rejection(api.get("/api/v1/lora/broken/status"), 400, "lora_unreadable")
    assert api.delete("/api/v1/lora/broken").status_code == 200
    assert own_files(tmp_path) == ["style.safetensors"]


def test_a_file_of_an_unsupported_kind_is_listed_with_its_problem(api: TestClient, tmp_path: Path) -> None:
    upload(api)
    kind = save({"diffusion_model.blocks.0.self_attn.q.lokr_w1": np.zeros((4, 4))})
    (tmp_path / "data" / "loras" / "lokr.safetensors").write_bytes(kind)
    found = api.get("/api/v1/lora/list").json()["loras"][0]
    assert (found["name"], found["fits"], found["rank"]) == ("lokr", [], None)
    assert "LoKr" in found["problem"]
    assert api.get("/api/v1/lora/lokr/memory-impact").json()["can_load"] is False
    assert api.post("/api/v1/lora/lokr/preview").json()["compatible"] is False


@pytest.mark.parametrize("name", ["none", "..%2Fjobs", "%2E%2E", "a%00b", "a" * 300, "字" * 99])
def test_an_unknown_lora_is_not_found(name: str, api: TestClient) -> None:
    for method, path in (
        ("GET", "status"),
        ("GET", "memory-impact"),
        ("POST", "preview"),
        ("DELETE", ""),
    ):
        answer = api.request(method, f"/api/v1/lora/{name}/{path}".rstrip("/"))
        assert answer.status_code == 404, answer.text


def test_a_running_job_shows_as_the_loras_use(api: TestClient, tmp_path: Path) -> None:
    upload(api)
    task = submit(api, loras=[{"name": "style", "strength": 0.7}]).json()["task_id"]
    other = submit(api, loras=[{"name": "tiny-neon"}]).json()["task_id"]
    store = JobStore(f"sqlite:///{tmp_path}/data/jobs.db")
    store.runner.claim(task, lease_seconds=60)
    found = api.get("/api/v1/lora/style/status").json()
    assert (found["is_applied"], found["current_strength"], found["jobs"]) == (True, 0.7, [task])
    assert api.get("/api/v1/lora/tiny-neon/status").json()["jobs"] == [other]
    assert api.get("/api/v1/lora/tiny-neon/status").json()["is_applied"] is False
    store.database.close()


def test_names_with_signs_of_a_pattern_are_no_pattern(api: TestClient) -> None:
    upload(api, file_name="a_b.safetensors")
    upload(api, file_name="axb.safetensors")
    submit(api, lora_path="axb")
    assert api.get("/api/v1/lora/a_b/status").json()["jobs"] == []
    assert len(api.get("/api/v1/lora/axb/status").json()["jobs"]) == 1


def test_a_preview_says_what_a_lora_would_change(api: TestClient) -> None:
    upload(api, lora(metadata={"modelspec.trigger_phrase": "ohwx"}), file_name="a_t2v.safetensors")
    use = {"model_type": "i2v", "strength": 1.5, "strength_2": 0, "prompt": "a cat"}
    found = api.post("/api/v1/lora/a_t2v/preview", json=use).json()
    assert (found["model"], found["compatible"], found["reason"]) == ("tiny-i2v", True, None)
    assert found["strengths"] == {"high_noise": 1.5}
    assert (found["changed_layers"], found["rank"]) == (1, 4)
    assert (found["base_prompt"], found["enhanced_prompt"]) == ("a cat", "a cat, ohwx")
    for part in ("the high-noise expert at 1.5", "trained for T2V-A14B", "above 1", "trigger words: ohwx"):
        assert part in found["description"]

    chosen = api.post("/api/v1/lora/a_t2v/preview").json()
    assert (chosen["model"], chosen["strengths"]) == ("tiny-t2v", {"high_noise": 1.0, "low_noise": 1.0})
    one_expert = api.post("/api/v1/lora/a_t2v/preview", json={"model_type": "ti2v"}).json()
    assert one_expert["strengths"] == {"high_noise": 1.0}
    nothing = api.post("/api/v1/lora/a_t2v/preview", json={"strength": 0}).json()
    assert "changes nothing" in nothing["description"]
    check_rejection(api.post("/api/v1/lora/a_t2v/preview", json={"model_type": "sora"}), 400, "unknown_model")
    check_rejection(api.post("/api/v1/lora/a_t2v/preview", json={"strength": 9}), 400, "invalid_value")


def test_a_preview_of_a_misfit_says_why(api: TestClient) -> None:
    upload(api, file_name="a.low_noise.safetensors")
    found = api.post("/api/v1/lora/a/preview", json={"model_type": "ti2v"}).json()
    assert (found["compatible"], found["strengths"]) == (False, {})
    assert "one expert" in found["reason"]
    assert "would be rejected" in found["description"]


def test_the_memory_of_a_lora_is_that_of_its_larger_file(api: TestClient) -> None:
    upload(api, lora(rank=8), file_name="a_HIGH.safetensors")
    upload(api, lora(rank=192), file_name="a_LOW.safetensors")
    found = api.get("/api/v1/lora/a/memory-impact").json()
    assert found["estimated_memory_mb"] == round(len(lora(rank=192)) / 1e6, 3)
    assert found["file_size_mb"] == round((len(lora(rank=8)) + len(lora(rank=192))) / 1e6, 3)
    assert (found["can_load"], found["memory_impact"], found["vram_available_mb"]) == (True, "low", None)


@pytest.mark.parametrize(("free_mb", "can_load"), [(500.0, True), (0.01, False)])
def test_the_memory_of_a_lora_is_compared_with_the_gpu_that_has_the_most_free(
    client: TestClient, services: Services, free_mb: float, can_load: bool
) -> None:
    gpus = [
        GpuUse(uuid=uuid, name="GPU", driver_version="1", gpu_percent=0.0, vram_used_mb=used, vram_total_mb=1000.0)
        for uuid, used in (("GPU-1", 1000.0 - free_mb), ("GPU-2", 1000.0))
    ]
    services.replicas.report(
        ReplicaInfo(
            id="a", deployment="generator", node="here", process_id=1, device="GPU", job_id=None, models=[], gpus=gpus
        )
    )
    found = client.get("/api/v1/lora/tiny-neon/memory-impact").json()
    assert (found["vram_available_mb"], found["can_load"]) == (free_mb, can_load)
    assert ("MB free now" in found["recommendation"]) is not can_load


def test_a_lora_that_does_not_fit_is_rejected_at_submission(api: TestClient) -> None:
    assert upload(api, lora(width=5120), file_name="large.safetensors").status_code == 200
    assert "fits no served model" in api.get("/api/v1/lora/large/status").json()["problem"]
    error = check_rejection(submit(api, lora_path="large"), 400, "lora_incompatible")
    assert error["param"] == "loras"
    assert "5120 channels, and this model has 192" in error["message"]
    upload(api, file_name="half.low_noise.safetensors")
    assert submit(api, lora_path="half").status_code == 200
    check_rejection(submit(api, lora_path="half", model_type="ti2v"), 400, "lora_incompatible")
    assert api.get("/api/v1/queue").json()["total_tasks"] == 1


def test_an_upload_beside_a_bucket_says_that_it_stays_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(variable, "test")
    with open_api(tmp_path, storage_url="s3://bucket/wan22") as api:
        assert "Other machines need the same file" in upload(api).json()["message"]
