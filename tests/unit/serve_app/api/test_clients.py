"""Requests of other servers' clients are accepted as these clients send them, and errors name the fields as sent."""

import base64
import json
import subprocess
import sys
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app.api.services import Services
from tests.pictures import png
from tests.rejections import check_rejection
from wan22_bridge.types import GenerationParams

_NATIVE, _OPENAI = "/api/v1/generation/submit", "/v1/videos"
_BASE64 = base64.b64encode(png()).decode()
_URL = f"data:image/png;base64,{_BASE64}"
_WRAPPED = "\r\n".join(_BASE64[start : start + 76] for start in range(0, len(_BASE64), 76))


def _params(services: Services, answer: Any) -> GenerationParams:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return services.store.reader.get(body.get("task_id") or body["id"]).params


def _rejection(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Checks a rejection. The test client's responses are of another type than those of a running service."""
    return check_rejection(answer, status, code)


def _json(client: TestClient, services: Services, path: str = _NATIVE, **fields: Any) -> GenerationParams:
    return _params(services, client.post(path, json={"prompt": "a cat"} | fields))


def _form(client: TestClient, services: Services, path: str = _OPENAI, **fields: str) -> GenerationParams:
    return _params(services, client.post(path, files=_as_parts({"prompt": "a cat"} | fields)))


def _as_parts(fields: dict[str, str]) -> list[tuple[str, Any]]:
    """Returns form fields in the shape with which httpx sends multipart without a file."""
    return [(name, (None, value)) for name, value in fields.items()]


def test_vllm_omnis_benchmark_is_understood(client: TestClient, services: Services) -> None:
    params = _form(
        client,
        services,
        width="128",
        height="96",
        num_frames="9",
        num_inference_steps="4",
        seed="7",
        fps="8",
        negative_prompt="blurry",
        guidance_scale_2="3.0",
        boundary_ratio="0.5",
        flow_shift="5.0",
        extra_params="{}",
    )
    assert (params.width, params.height, params.num_frames, params.steps) == (128, 96, 9, 4)
    assert (params.seed, params.fps, params.negative_prompt) == (7, 8, "blurry")
    assert (params.guidance_scale_2, params.boundary_ratio, params.flow_shift) == (3.0, 0.5, 5.0)


def test_sglangs_benchmark_is_understood(client: TestClient, services: Services) -> None:
    params = _json(
        client, services, _OPENAI, model="tiny-t2v", size="96x64", num_frames=5, fps=8, num_inference_steps=3, user="x"
    )
    assert (params.width, params.height, params.num_frames, params.fps, params.steps) == (96, 64, 5, 8, 3)
    answer = client.post(
        _OPENAI,
        data={"model": "i2v", "prompt": "a cat", "extra_body": '{"num_inference_steps": 3, "fps": 30}', "fps": "8"},
        files={"input_reference": ("a.png", png(), "application/octet-stream")},
    )
    params = _params(services, answer)
    assert (params.model, params.steps, params.fps, params.image is None) == ("tiny-i2v", 3, 8, False)


def _optional_fields(client: TestClient, path: str) -> set[str]:
    described = client.get("/openapi.json").json()["paths"][path]["post"]["requestBody"]["content"]
    schema = described["application/json"]["schema"]
    return set(schema["properties"]) - {"prompt"}


@pytest.mark.parametrize("path", [_NATIVE, _OPENAI])
def test_null_for_every_optional_field_means_the_defaults(path: str, client: TestClient, services: Services) -> None:
    plain = _json(client, services, path, seed=1)
    names = _optional_fields(client, path)
    assert {"steps", "metadata", "loras", "num_inference_steps", "priority"} <= names
    assert _json(client, services, path, **dict.fromkeys(names) | {"seed": 1}) == plain
    for nothing in ("null", "undefined", ""):
        fields = dict.fromkeys(names, nothing) | {"seed": "1", "negative_prompt": "null"}
        assert _form(client, services, path, **fields) == plain


def test_forms_of_javascript_are_understood(client: TestClient, services: Services) -> None:
    params = _form(
        client,
        services,
        _NATIVE,
        numFrames="9.0",
        negativePrompt="",
        modelType="t2v",
        enableOffload="on",
        guidanceScale="2",
        loras='[{"name": "tiny-neon", "strength": null}]',
        metadata='{"who": "me"}',
    )
    assert (params.model, params.num_frames, params.negative_prompt) == ("tiny-t2v", 9, "")
    assert (params.guidance_scale, [use.name for use in params.loras]) == (2.0, ["tiny-neon"])


@pytest.mark.parametrize("steps", [4.0, "4", "4.0", 4])
def test_whole_numbers_are_accepted_in_any_form(steps: Any, client: TestClient, services: Services) -> None:
    assert _json(client, services, num_inference_steps=steps).steps == 4


@pytest.mark.parametrize(
    "lora",
    [
        {"name": "tiny-neon", "scale": 0.5},
        {"name": "tiny-neon", "path": "/models/other.safetensors", "scale": "0.5"},
        {"path": "/models/tiny-neon.safetensors", "scale": 0.5, "int_id": 3},
        '{"name": "tiny-neon", "scale": 0.5}',
        "{'name': 'tiny-neon', 'scale': 0.5}",
    ],
)
def test_a_lora_of_vllm_omni_is_understood(lora: Any, client: TestClient, services: Services) -> None:
    [use] = _json(client, services, lora=lora).loras
    assert (use.name, use.high_noise_strength, use.low_noise_strength) == ("tiny-neon", 0.5, 0.5)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"aspect_ratio": "16:9"}, (160, 96)),
        ({"aspectRatio": "9:16"}, (96, 160)),
        ({"size": "720p"}, (1280, 720)),
        ({"resolution": "720p", "aspect_ratio": "9:16"}, (720, 1280)),
        ({"width": 128, "height": "96", "aspect_ratio": "4:3"}, (128, 96)),
    ],
)
def test_sizes_have_other_names(
    fields: dict[str, Any], size: tuple[int, int], client: TestClient, services: Services
) -> None:
    params = _json(client, services, **fields)
    assert (params.width, params.height) == size


def test_a_fractional_frame_rate_is_stored_and_reported(client: TestClient, services: Services) -> None:
    answer = client.post(_NATIVE, json={"prompt": "a cat", "fps": 23.976, "seconds": 1})
    assert _params(services, answer).fps == 23.976
    assert _params(services, answer).num_frames == 25
    task = client.get(f"/api/v1/generation/{answer.json()['task_id']}").json()
    assert task["fps"] == 23.976


def test_a_whole_frame_rate_is_reported_as_an_integer(client: TestClient) -> None:
    task_id = client.post(_NATIVE, json={"prompt": "a cat", "fps": 24.0}).json()["task_id"]
    assert '"fps":24,' in client.get(f"/api/v1/generation/{task_id}").text


@pytest.mark.parametrize("value", [False, None, "false", "off", "0", [], 0])
def test_fields_that_ask_for_nothing_are_accepted(value: Any, client: TestClient, services: Services) -> None:
    fields = dict.fromkeys(("generate_sound", "characters", "quality", "enable_frame_interpolation"), value)
    assert _json(client, services, **fields, seed=1) == _json(client, services, seed=1)


@pytest.mark.parametrize(
    ("fields", "code", "param", "words"),
    [
        ({"generate_sound": True}, "field_not_supported", "generate_sound", "does not support"),
        ({"characters": [{"id": "char_1"}]}, "field_not_supported", "characters", "does not support"),
        ({"quality": "hd"}, "field_not_supported", "quality", "'hd'"),
        ({"num_step": 4}, "unknown_field", "num_step", "Did you mean 'steps'?"),
        ({"promptt": "x"}, "unknown_field", "promptt", "Did you mean 'prompt'?"),
        ({"extra_body": {"stepz": 1}}, "unknown_field", "extra_body.stepz", "Did you mean 'steps'?"),
        ({"extra_params": "nonsense"}, "invalid_value", "extra_params", "JSON object"),
        ({"num_inference_steps": 101}, "invalid_value", "num_inference_steps", "num_inference_steps: "),
        ({"numFrames": 5000}, "too_many_frames", "numFrames", "numFrames is 5000"),
        ({"size": "abc"}, "invalid_resolution", "size", "size 'abc'"),
        ({"width": 64}, "invalid_resolution", "width", "without height"),
        ({"width": "x", "height": 64}, "invalid_value", "width", "'x'"),
        ({"size": "64x64", "resolution": "96x96"}, "contradictory_fields", "resolution", "'64x64'"),
        ({"resolution": "64x64", "aspect_ratio": "16:9"}, "contradictory_fields", "aspect_ratio", "64x64"),
        ({"aspect_ratio": "wide"}, "invalid_aspect_ratio", "aspect_ratio", "'wide'"),
        ({"lora": {"scale": 1}}, "invalid_value", "lora", "name of a LoRA"),
        ({"lora": {"name": "none-such"}}, "lora_not_found", "lora", "none-such"),
        ({"model": "ti2v", "boundary_ratio": 0.5}, "boundary_ratio_not_supported", "boundary_ratio", "one expert"),
    ],
)
def test_an_error_names_the_field_as_the_client_did(
    fields: dict[str, Any], code: str, param: str, words: str, client: TestClient
) -> None:
    for path in (_NATIVE, _OPENAI):
        error = _rejection(client.post(path, json={"prompt": "a cat"} | fields), 400, code)
        assert error["param"] == param
        assert words in error["message"]
        assert error["suggestions"] or code in ("invalid_value", "lora_not_found")


@pytest.mark.parametrize(
    "reference",
    [
        _URL,
        _URL.rstrip("="),
        f"data:image/png;base64,{_BASE64.translate(str.maketrans('+/', '-_'))}",
        f"data:image/png;base64,{_WRAPPED}",
        f"data:image/png;charset=utf-8;base64,{_BASE64.replace('=', '%3D')}",
        {"image_url": _URL},
        {"image_url": {"url": _URL}},
        json.dumps({"image_url": {"url": _URL}}),
    ],
)
@pytest.mark.parametrize("name", ["input_reference", "inputReference", "image"])
def test_an_image_may_be_text(name: str, reference: Any, client: TestClient, services: Services) -> None:
    params = _json(client, services, _OPENAI, model="i2v", **{name: reference})
    assert params.image is not None
    assert services.storage.path(params.image).read_bytes() == png()


def test_an_upload_may_be_named_by_its_id_alone(client: TestClient, services: Services) -> None:
    upload = client.post("/api/v1/uploads", files={"file": ("a.png", png())}).json()["id"]
    for reference in (upload, {"file_id": upload}, {"id": upload}):
        params = _json(client, services, _OPENAI, model="i2v", input_reference=reference)
        assert params.image is not None
    assert _form(client, services, model="i2v", input_reference=upload).image == params.image


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("data:image/png;base64", "no comma"),
        (f"data:image/png,{_BASE64}", "not marked as base64"),
        (f"data:image/gif;base64,{_BASE64}", "'image/gif'"),
        ("data:image/png;base64,", "no content"),
        ("data:image/png;base64,iVBO!w0K", "'!' at character 5"),
        ("data:image/png;base64,iVBOR", "cut off"),
        ("https://example.org/a.png", "another server"),
        ("two words", "neither an id nor a data URL"),
        ({"url": 5}, "5"),
        ({"href": "x"}, "file_id, image_url"),
        (17, "'17'"),
    ],
)
def test_an_error_says_what_is_wrong_with_a_reference(reference: Any, words: str, client: TestClient) -> None:
    answer = client.post(_OPENAI, json={"prompt": "a cat", "input_reference": reference})
    error = _rejection(answer, 400, "invalid_input_reference")
    assert error["param"] == "input_reference"
    assert words in error["message"]


def test_a_repeated_key_is_honest_whatever_names_the_client_uses(client: TestClient) -> None:
    headers = {"idempotency-key": "k"}
    first = client.post(_NATIVE, json={"prompt": "a cat", "steps": 4, "fps": 24}, headers=headers)
    again = {"prompt": "a cat", "num_inference_steps": "4", "fps": 24.0, "user": "x"}
    assert client.post(_NATIVE, json=again, headers=headers).json()["task_id"] == first.json()["task_id"]
    other = client.post(_NATIVE, json=again | {"seconds": 1}, headers=headers)
    _rejection(other, 409, "idempotency_key_reused")


def test_the_answer_says_how_many_tokens_of_the_prompt_are_dropped(client: TestClient) -> None:
    for words, dropped in ((5, 0), (900, 389)):
        answer = client.post(_NATIVE, json={"prompt": "a " * words, "model_type": "t2v"}).json()
        assert answer["prompt_tokens_dropped"] == dropped
        assert ("drops the last" in answer["message"]) is bool(dropped)
        task = client.get(f"/api/v1/generation/{answer['task_id']}").json()
        assert task["prompt_tokens_dropped"] == dropped
        assert client.get(f"/v1/videos/{answer['task_id']}").json()["prompt_tokens_dropped"] == dropped


def test_the_synchronous_route_gives_up_in_time_and_keeps_the_job(client: TestClient) -> None:
    answer = client.post("/v1/videos/sync", params={"timeout_seconds": 0.2}, json={"prompt": "a cat"})
    error = _rejection(answer, 504, "video_timeout")
    video_id = answer.headers["x-video-id"]
    assert video_id in error["suggestions"][0]
    assert answer.headers["x-should-retry"] == "false"
    assert client.get(f"/v1/videos/{video_id}").json()["status"] == "queued"


def test_the_synchronous_route_reports_a_cancelled_job(client: TestClient, services: Services) -> None:
    first = client.post("/v1/videos", json={"prompt": "a cat"}, headers={"idempotency-key": "k"}).json()["id"]
    services.store.writer.request_cancel(first)
    answer = client.post("/v1/videos/sync", json={"prompt": "a cat"}, headers={"idempotency-key": "k"})
    _rejection(answer, 500, "cancelled")
    assert answer.headers["x-video-id"] == first


def test_the_model_info_names_the_first_model(client: TestClient) -> None:
    info = client.get("/v1/model_info").json()
    assert (info["model_path"], info["task_type"], info["is_generation"]) == ("tiny-t2v", "text-to-video", True)
    assert info["models"] == ["tiny-t2v", "tiny-i2v", "tiny-ti2v"]


def test_submitting_imports_no_torch() -> None:
    code = (
        "import sys, serve_app.api.fields.normalizing, wan22_bridge.models.prompt_tokens; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
