"""The routes for prompts: enhancement, previews, checks and styles."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.http_api import open_api
from tests.rejections import check_rejection
from tests.service import free_port


@pytest.fixture
def api(tmp_path: Path) -> Iterator[TestClient]:
    with open_api(tmp_path) as client:
        yield client


def test_a_prompt_is_enhanced_by_rules(api: TestClient) -> None:
    answer = api.post("/api/v1/prompt/enhance", json={"prompt": " an anime cat ", "options": {"apply_cinematic": True}})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    enhanced = (
        "an anime cat, natural, continuous motion, soft natural light, medium shot, slow and steady camera movement"
    )
    assert (found["original_prompt"], found["enhanced_prompt"]) == ("an anime cat", enhanced)
    assert found["enhancements_applied"][0] == "motion: natural, continuous motion"
    assert found["character_count"] == {"original": 12, "enhanced": len(enhanced), "difference": len(enhanced) - 12}
    assert (found["detected_style"], found["vace_detected"], found["method"]) == ("anime", False, "rules")


def test_null_options_have_their_defaults(api: TestClient) -> None:
    options = dict.fromkeys(("apply_vace", "apply_cinematic", "apply_style", "style", "method"))
    bodies = [{"prompt": "a cat"}, {"prompt": "a cat", "options": None}, {"prompt": "a cat", "options": options}]
    answers = [api.post("/api/v1/prompt/enhance", json=body).json() for body in bodies]
    assert answers[0] == answers[1] == answers[2]
    assert "style" in answers[0]["enhanced_prompt"]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"prompt": ""}, "prompt_empty", "prompt"),
        ({"prompt": "x" * 2001}, "prompt_too_long", "prompt"),
        ({}, "invalid_value", "prompt"),
        ({"prompt": 5}, "invalid_value", "prompt"),
        ({"prompt": "x", "options": {"style": "nope"}}, "unknown_style", "options.style"),
        ({"prompt": "x", "options": {"apply_magic": True}}, "unknown_field", "options.apply_magic"),
        ({"prompt": "x", "options": {"method": "magic"}}, "invalid_value", "options.method"),
    ],
)
def test_a_wrong_field_is_named(body: dict[str, Any], code: str, param: str, api: TestClient) -> None:
    assert check_rejection(api.post("/api/v1/prompt/enhance", json=body), 400, code)["param"] == param


def test_a_check_says_what_a_prompt_lacks(api: TestClient) -> None:
    found = api.post("/api/v1/prompt/validate", json={"prompt": " a cat "}).json()
    assert (found["is_valid"], found["character_count"]) == (True, 5)
    assert "Name a style, such as cinematic or anime." in found["suggestions"]
    for prompt, message in (
        ("", "prompt is empty."),
        ("x" * 2001, "prompt has 2001 characters: expected at most 2000."),
    ):
        found = api.post("/api/v1/prompt/validate", json={"prompt": prompt}).json()
        assert (found["is_valid"], found["message"], found["character_count"]) == (False, message, len(prompt))
        assert found["suggestions"]


def test_a_preview_checks_and_enhances(api: TestClient) -> None:
    found = api.post("/api/v1/prompt/preview", json={"prompt": "a cat, VACE"}).json()
    assert (found["is_valid"], found["original_prompt"], found["vace_detected"]) == (True, "a cat, VACE", True)
    enhanced = api.post("/api/v1/prompt/enhance", json={"prompt": "a cat, VACE"}).json()
    assert found["enhanced_prompt"] == enhanced["enhanced_prompt"]
    invalid = api.post("/api/v1/prompt/preview", json={"prompt": " "}).json()
    assert (invalid["is_valid"], invalid["enhanced_prompt"], invalid["enhancements_applied"]) == (False, "", [])


def test_styles_can_be_added_by_name(api: TestClient) -> None:
    found = api.get("/api/v1/prompt/styles").json()
    assert found["total_count"] == len(found["styles"]) > 10
    for style in found["styles"]:
        assert set(style) == {"name", "display_name", "description"}
        body = {"prompt": "a cat", "options": {"style": style["name"], "apply_cinematic": False}}
        enhanced = api.post("/api/v1/prompt/enhance", json=body).json()["enhanced_prompt"]
        again = api.post("/api/v1/prompt/validate", json={"prompt": enhanced}).json()
        assert "Name a style, such as cinematic or anime." not in again["suggestions"]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = f"{sent['messages'][1]['content']} of {sent['model']}, key {self.headers.get('Authorization')}"
        body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def chat_url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_a_configured_model_takes_the_place_of_the_rules(
    chat_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enhancer = {"url": chat_url, "model": "tiny", "api_key_env": "WAN22_TEST_CHAT_KEY"}
    with open_api(tmp_path, prompt_enhancer=enhancer) as api:
        without_key = check_rejection(api.post("/api/v1/prompt/enhance", json={"prompt": "a cat"}), 503, _UNAVAILABLE)
        assert "WAN22_TEST_CHAT_KEY" in without_key["message"]
        monkeypatch.setenv("WAN22_TEST_CHAT_KEY", "secret")
        found = api.post("/api/v1/prompt/enhance", json={"prompt": "a cat"}).json()
        assert (found["enhanced_prompt"], found["method"]) == ("a cat of tiny, key Bearer secret", "model")
        assert found["enhancements_applied"] == ["rewritten by tiny"]
        body = {"prompt": "a cat", "options": {"method": "rules"}}
        assert api.post("/api/v1/prompt/enhance", json=body).json()["method"] == "rules"
        assert (
            "cinematic style" in api.post("/api/v1/prompt/preview", json={"prompt": "a cat"}).json()["enhanced_prompt"]
        )


_UNAVAILABLE = "prompt_enhancer_unavailable"


def test_a_failed_model_is_reported_and_the_rules_remain(tmp_path: Path) -> None:
    with open_api(tmp_path, prompt_enhancer={"url": f"http://127.0.0.1:{free_port()}", "model": "tiny"}) as api:
        error = check_rejection(api.post("/api/v1/prompt/enhance", json={"prompt": "a cat"}), 503, _UNAVAILABLE)
        assert error["can_retry"] is True
        assert "rules" in " ".join(error["suggestions"])
        body = {"prompt": "a cat", "options": {"method": "rules"}}
        assert api.post("/api/v1/prompt/enhance", json=body).status_code == 200


def test_a_job_has_the_prompt_that_was_sent(api: TestClient) -> None:
    api.post("/api/v1/prompt/enhance", json={"prompt": "a cat"})
    task = api.post("/api/v1/generation/submit", json={"prompt": "a cat", "model_type": "t2v"}).json()["task_id"]
    assert api.get(f"/api/v1/generation/{task}").json()["prompt"] == "a cat"
