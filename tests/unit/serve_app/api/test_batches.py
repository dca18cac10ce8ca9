"""Requests for several videos, and the routes of their batch."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.jobs.cleaning import Cleaner
from deployments.jobs.job import Job, JobState
from deployments.jobs.retention import Retention
from serve_app.api.services import Services
from tests.pictures import png
from tests.rejections import check_rejection
from tests.videos import mp4
from wan22_bridge.options import MAX_SEED

_SUBMIT, _VIDEOS, _ESTIMATE = "/api/v1/generation/submit", "/v1/videos", "/api/v1/generation/estimate"
_PROMPT = {"prompt": "a cat"}


def _submit(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(_SUBMIT, json=_PROMPT | fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def _seeds(services: Services, answer: dict[str, Any]) -> list[int]:
    """Returns the seeds of the jobs of a submission's answer."""
    ids = answer.get("task_ids") or answer.get("video_ids") or [answer.get("task_id") or answer["id"]]
    return [services.store.reader.get(job_id).params.seed for job_id in ids]


def _count(services: Services) -> int:
    return sum(services.store.reader.count().values())


@pytest.mark.parametrize(
    ("fields", "seeds"),
    [
        ({"num_outputs": 3, "seed": 7}, [7, 8, 9]),
        ({"n": 2, "seed": "7"}, [7, 8]),
        ({"numOutputs": 2.0, "seed": 0}, [0, 1]),
        ({"seeds": [5, 3]}, [5, 3]),
        ({"seeds": ["5", 3.0], "n": 2}, [5, 3]),
        ({"seeds": "[5, 3]"}, [5, 3]),
        ({"extra_body": {"seeds": [5, 3]}}, [5, 3]),
        ({"num_outputs": 8, "seed": MAX_SEED - 7}, [MAX_SEED - 7 + index for index in range(8)]),
    ],
)
@pytest.mark.parametrize("path", [_SUBMIT, _VIDEOS])
def test_one_request_makes_a_job_for_each_seed(
    client: TestClient, services: Services, path: str, fields: dict[str, Any], seeds: list[int]
) -> None:
    answer = client.post(path, json=_PROMPT | fields)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert _seeds(services, body) == seeds
    assert body["batch_id"].startswith("batch_")
    assert (body.get("task_ids") or body["video_ids"])[0] == (body.get("task_id") or body["id"])


@pytest.mark.parametrize(
    "form", [{"seeds[]": ["5", "3"]}, {"seeds[0]": "5", "seeds[1]": "3"}, {"seeds": "[5,3]"}, {"n": "2", "seed": "5"}]
)
def test_forms_ask_for_several_videos_too(client: TestClient, services: Services, form: dict[str, Any]) -> None:
    for path in (_SUBMIT, _VIDEOS):
        answer = client.post(path, data=_PROMPT | form)
        assert answer.status_code == 200, answer.text
        assert _seeds(services, answer.json()) == ([5, 6] if "n" in form else [5, 3])


@pytest.mark.parametrize("seed", [None, -1, ""])
def test_without_a_seed_each_job_draws_its_own(client: TestClient, services: Services, seed: Any) -> None:
    assert len(set(_seeds(services, _submit(client, num_outputs=3, seed=seed)))) == 3


@pytest.mark.parametrize(
    "fields", [{}, {"num_outputs": 1}, {"n": "1"}, {"num_outputs": None, "seeds": []}, {"seeds": [4]}, {"n": ""}]
)
def test_one_video_is_an_ordinary_job(client: TestClient, services: Services, fields: dict[str, Any]) -> None:
    answer = _submit(client, **fields)
    assert (answer["batch_id"], answer["task_ids"]) == (None, None)
    task = client.get(f"/api/v1/generation/{answer['task_id']}").json()
    assert task["batch_id"] is None
    if "seeds" in fields:
        assert task["seed"] in (fields["seeds"] or [task["seed"]])
    video = client.post(_VIDEOS, json=_PROMPT | fields).json()
    assert not {"batch_id", "video_ids"} & set(video)
    assert "batch_id" not in client.get(f"/v1/videos/{video['id']}").json()
    assert _count(services) == 2


@pytest.mark.parametrize(
    ("fields", "code", "param", "words"),
    [
        ({"num_outputs": 0}, "invalid_value", "num_outputs", "got 0"),
        ({"num_outputs": 9}, "invalid_value", "num_outputs", "got 9"),
        ({"n": -1}, "invalid_value", "n", "got -1"),
        ({"n": "many"}, "invalid_value", "n", "'many'"),
        ({"n": 2.5}, "invalid_value", "n", "2.5"),
        ({"n": True}, "invalid_value", "n", "got true"),
        ({"num_outputs": False}, "invalid_value", "num_outputs", "got false"),
        ({"num_outputs": [2]}, "invalid_value", "num_outputs", "[2]"),
        ({"num_outputs": 10**400}, "invalid_value", "num_outputs", "num_outputs: "),
        ({"num_outputs": "9" * 1_000_000}, "invalid_value", "num_outputs", "num_outputs: "),
        ({"seeds": [1, 2, 1]}, "invalid_value", "seeds", "got 1 more than once"),
        ({"seeds": [1, "1"]}, "invalid_value", "seeds", "got 1 more than once"),
        ({"seeds": [1, -1]}, "invalid_value", "seeds.1", "got -1"),
        ({"seeds": [MAX_SEED + 1]}, "invalid_value", "seeds.0", f"got {MAX_SEED + 1}"),
        ({"seeds": list(range(9))}, "invalid_value", "seeds", "at most 8"),
        ({"seeds": list(range(40_000))}, "invalid_value", "seeds", "at most 8"),
        ({"seeds": ["a", "b"]}, "invalid_value", "seeds.0", "'a'"),
        ({"seeds": [True, 2]}, "invalid_value", "seeds.0", "got true"),
        ({"seeds": [1.5, 2]}, "invalid_value", "seeds.0", "1.5"),
        ({"seeds": [[1], [2]]}, "invalid_value", "seeds.0", "[1]"),
        ({"seeds": 3}, "invalid_value", "seeds", "got 3"),
        ({"seeds": {"a": 1}}, "invalid_value", "seeds", "{'a': 1}"),
        ({"seeds": "1, 2"}, "invalid_value", "seeds.0", "'1, 2'"),
        ({"seeds": "[" + "1," * 500_000}, "invalid_value", "seeds", "JSON array"),
        ({"seeds": ["x" * 1_000_000]}, "invalid_value", "seeds.0", "seeds.0: "),
        ({"seeds": [1, 2], "seed": 3}, "contradictory_fields", "seeds", "seed is 3"),
        ({"seeds": [1, 2], "seed": -1}, "contradictory_fields", "seeds", "seed is -1"),
        ({"seeds": [1, 2], "n": 3}, "contradictory_fields", "n", "n is 3"),
        ({"seeds": [1, 2], "num_outputs": 1}, "contradictory_fields", "num_outputs", "seeds has 2"),
        ({"n": 2, "num_outputs": 3}, "contradictory_fields", "num_outputs", "n and num_outputs"),
        ({"seed": MAX_SEED, "n": 2}, "seed_too_large", "seed", str(MAX_SEED - 1)),
        ({"n": 2, "steps": 0}, "invalid_value", "steps", "got 0"),
        ({"n": 2, "loras": [{"name": "none-such"}]}, "lora_not_found", "loras", "none-such"),
    ],
)
def test_a_wrong_number_or_wrong_seeds_store_nothing(
    client: TestClient, services: Services, fields: dict[str, Any], code: str, param: str, words: str
) -> None:
    for path in (_SUBMIT, _VIDEOS, _ESTIMATE):
        answer = client.post(path, json=_PROMPT | fields)
        error = check_rejection(answer, 400, code)
        assert error["param"] == param or (param, error["param"]) == ("n", "num_outputs")
        assert words.replace("n and num_outputs", "num_outputs and n") in error["message"] or words in error["message"]
        assert len(answer.text) < 1500
    assert _count(services) == 0


@pytest.mark.parametrize(
    "form",
    [
        {"seeds[]": ["1", "x"]},
        {"seeds[0]": "1", "seeds[x]": "2"},
        {"seeds[²]": "1"},
        {f"seeds[{'9' * 5000}]": "1"},
        {"seeds": ["1", "x"]},
        {"n": "true"},
        {"n": "2.5"},
        {"n[]": ["2"]},
    ],
)
def test_wrong_forms_for_several_videos_are_rejected(
    client: TestClient, services: Services, form: dict[str, Any]
) -> None:
    answer = client.post(_SUBMIT, data=_PROMPT | form)
    error = check_rejection(answer, 400, "invalid_value")
    assert error["param"].partition(".")[0] in ("seeds", "n")
    assert _count(services) == 0


def test_segments_with_fixed_seeds_would_make_the_same_video_twice(client: TestClient) -> None:
    segments: list[dict[str, Any]] = [{"prompt": "a", "seed": 1}, {"prompt": "b", "seed": 2}]
    answer = client.post(_SUBMIT, json={"segments": segments, "n": 2})
    assert check_rejection(answer, 400, "contradictory_fields")["param"] == "segments"
    segments[1].pop("seed")
    body = client.post(_SUBMIT, json={"segments": segments, "n": 2, "seed": 5}).json()
    tasks = client.get(f"/api/v1/batches/{body['batch_id']}").json()["tasks"]
    assert [[part["seed"] for part in task["segments"]] for task in tasks] == [[1, 6], [1, 7]]


def test_an_uploaded_file_is_shared_by_all_jobs(client: TestClient, services: Services) -> None:
    answer = client.post(_SUBMIT, data=_PROMPT | {"n": "3"}, files={"image": ("a.png", png())})
    jobs = services.store.batches.find(answer.json()["batch_id"]).jobs
    [key] = {job.params.image for job in jobs}
    assert key is not None
    for job in jobs[:2]:
        assert client.delete(f"/api/v1/queue/{job.id}").status_code == 200
    Cleaner(services.store, services.storage, Retention()).clean()
    assert services.storage.path(key).read_bytes() == png()


def test_a_repeated_key_returns_the_same_batch(client: TestClient, services: Services) -> None:
    headers = {"idempotency-key": "k"}
    for path in (_SUBMIT, _VIDEOS):
        headers["idempotency-key"] += "k"
        first = client.post(path, json=_PROMPT | {"num_outputs": 3}, headers=headers).json()
        assert client.post(path, json=_PROMPT | {"n": "3"}, headers=headers).json() == first
        for other in ({"n": 2}, {}, {"seeds": [1, 2, 3]}, {"n": 3, "seed": 1}):
            answer = client.post(path, json=_PROMPT | other, headers=headers)
            check_rejection(answer, 409, "idempotency_key_reused")
    assert _count(services) == 6


def test_the_answer_says_how_many_jobs_wait(client: TestClient) -> None:
    client.put("/api/v1/system/generation-mode", json={"mode": "mock"})
    answer = _submit(client, num_outputs=2, num_frames=5, resolution="64x64")
    assert answer["message"] == "Queued 2 jobs as mock jobs: 5 frames at 64x64."
    assert answer["estimated_time_minutes"] == round(1 / 60, 3)
    tasks = client.get(f"/api/v1/batches/{answer['batch_id']}").json()["tasks"]
    assert [task["is_mock"] for task in tasks] == [True, True]


def test_an_estimate_counts_all_videos(client: TestClient, services: Services) -> None:
    for _ in range(3):  # an estimate needs the run times of jobs of the model
        job = services.store.reader.get(_submit(client)["task_id"])
        _complete(services, job)
    one, three = (client.post(_ESTIMATE, json=_PROMPT | {"n": count}).json() for count in (1, 3))
    assert (one["num_outputs"], three["num_outputs"]) == (1, 3)
    assert three["estimated_seconds"] == pytest.approx(3 * one["estimated_seconds"])
    assert client.post(_ESTIMATE, json=_PROMPT | {"seeds": [1, 2]}).json()["num_outputs"] == 2


def test_routes_for_one_video_reject_a_batch_by_name(client: TestClient, services: Services) -> None:
    for name, value in (("n", 2), ("num_outputs", 2), ("seeds", [1, 2])):
        answer = client.post("/v1/videos/sync", json=_PROMPT | {name: value})
        error = check_rejection(answer, 400, "batch_not_supported")
        assert error["param"] == name
        assert "POST /v1/videos" in error["suggestions"][-1]
    assert _count(services) == 0
    answer = client.post("/v1/videos/sync", params={"timeout_seconds": 0.1}, json=_PROMPT | {"n": 1})
    check_rejection(answer, 504, "video_timeout")


def test_a_batch_is_read_and_cancelled(client: TestClient, services: Services) -> None:
    answer = _submit(client, num_outputs=3)
    url = f"/api/v1/batches/{answer['batch_id']}"
    first, second, third = services.store.batches.find(answer["batch_id"]).jobs

    batch = client.get(url).json()
    assert (batch["id"], batch["status"], batch["progress"]) == (answer["batch_id"], "pending", 0)
    assert (batch["total"], batch["pending"]) == (3, 3)
    assert [task["id"] for task in batch["tasks"]] == answer["task_ids"]
    assert [task["queue_position"] for task in batch["tasks"]] == [1, 2, 3]
    assert {task["batch_id"] for task in batch["tasks"]} == {answer["batch_id"]}
    assert batch["created_at"] == batch["tasks"][0]["created_at"]

    _complete(services, first)
    assert client.post("/api/v1/queue/clear").json()["cleared"] == 1
    services.store.runner.claim(second.id, lease_seconds=60)
    batch = client.post(f"{url}/cancel").json()
    assert [batch[state.value] for state in JobState] == [0, 1, 1, 0, 1]
    assert (batch["status"], batch["tasks"][1]["cancel_requested"]) == ("processing", True)
    services.store.runner.mark_cancelled(second.id, 1)
    assert client.get(url).json()["status"] == "cancelled"
    error = check_rejection(client.post(f"{url}/cancel"), 409, "batch_ended")
    assert "cancelled" in error["message"]
    assert client.delete(f"/api/v1/queue/{third.id}").status_code == 200
    assert [task["id"] for task in client.get(url).json()["tasks"]] == [first.id, second.id]


@pytest.mark.parametrize("batch_id", ["batch_none", "video_1", "%00", "batch_%ff", "x" * 5000, "..%2Fqueue"])
def test_an_unknown_batch_is_not_found(client: TestClient, services: Services, batch_id: str) -> None:
    _submit(client, num_outputs=2)
    for answer in (client.get(f"/api/v1/batches/{batch_id}"), client.post(f"/api/v1/batches/{batch_id}/cancel")):
        assert answer.status_code == 404, answer.text
        assert len(answer.text) < 1000
    assert services.store.reader.count()[JobState.PENDING] == 2


def test_a_jobs_id_is_no_batch_id(client: TestClient) -> None:
    for answer in (_submit(client), _submit(client, num_outputs=2)):
        check_rejection(client.get(f"/api/v1/batches/{answer['task_id']}"), 404, "batch_not_found")
    check_rejection(client.get("/api/v1/batches/None"), 404, "batch_not_found")


@pytest.mark.parametrize("path", ["/v1/videos/edits", "/v1/videos/extensions"])
def test_a_video_is_edited_and_extended_with_several_seeds(client: TestClient, services: Services, path: str) -> None:
    form = _PROMPT | {"n": "2", "seed": "4", "num_frames": "5"}
    answer = client.post(path, data=form, files={"video": ("a.mp4", mp4())})
    assert answer.status_code == 200, answer.text
    assert _seeds(services, answer.json()) == [4, 5]
    assert answer.json()["batch_id"]


def test_a_remix_of_a_batchs_video_is_an_ordinary_job(client: TestClient, services: Services) -> None:
    job = services.store.batches.find(_submit(client, seeds=[1, 2])["batch_id"]).jobs[1]
    _complete(services, job)
    remix = client.post(f"/v1/videos/{job.id}/remix", json={"prompt": "a dog"}).json()
    assert "batch_id" not in remix
    assert _seeds(services, remix) == [2]
    answer = client.post(f"/v1/videos/{job.id}/remix", json={"prompt": "a dog", "num_outputs": 2})
    assert check_rejection(answer, 400, "unknown_field")["param"] == "num_outputs"


def _complete(services: Services, job: Job) -> None:
    services.store.runner.claim(job.id, lease_seconds=60)
    result = {"success": True, "generation_time_seconds": 2.0, "timings": {"generating": 2.0}}
    output = {"folder": "x", "video": "video.mp4", "file_size_bytes": 1}
    services.store.runner.complete(job.id, 1, output=output, result=result)
