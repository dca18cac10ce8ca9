"""Hosts, methods and redirects that a client makes up, and texts that are meant for the database or the log."""

import logging
import re
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import pytest

from tests.http_api import make_bare_api, open_api
from tests.keys import ADMIN, ALICE, BOB, KeyedApi, open_keyed_api

_EVIL = "evil.example"
_GET_QUERIES = [
    (path, parameter["name"])
    for path, item in make_bare_api().openapi()["paths"].items()
    for parameter in item.get("get", {}).get("parameters", [])
    if parameter["in"] == "query" and "{" not in path and path != "/api/v1/system/health"
]
_INJECTIONS = [
    "' OR '1'='1",
    "x' UNION SELECT secret_hash FROM api_keys --",
    "1; DROP TABLE jobs; --",
    "\\'; SELECT pg_sleep(10) --",
    '{"$ne": null}',
    "$where",
    "%",
    "_" * 20,
    "%" * 5000 + "x",
    "a\r\n2026-01-01 INFO Admin action",
    "${jndi:ldap:evil}",
    "{{7*7}}",
    "\x1b]0;evil\x07",
]


def _quote(text: str) -> str:
    """Returns a text as one segment of a path."""
    return quote(text[:1000], safe="")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path_factory.mktemp("addresses")) as opened:
        yield opened


@pytest.fixture(scope="module")
def video_id(api: KeyedApi) -> str:
    return api.complete(ALICE).id


@pytest.mark.parametrize("header", ["x-forwarded-host", "forwarded", "x-host", "x-original-host", "x-forwarded-server"])
def test_a_forwarded_host_of_a_client_is_not_in_links(header: str, video_id: str, api: KeyedApi) -> None:
    value = f"host={_EVIL}" if header == "forwarded" else _EVIL
    answer = api.call(ALICE, "GET", f"/api/v1/outputs/{video_id}/link", headers={header: value})
    assert urlsplit(answer.json()["url"]).netloc == "testserver"


def test_a_link_for_a_made_up_host_goes_to_its_sender_only(video_id: str, api: KeyedApi) -> None:
    """A service with keys serves each host name, so a link names the host that the request named."""
    path = f"/api/v1/outputs/{video_id}/link"
    made_up = api.call(ALICE, "GET", path, headers={"host": _EVIL})
    assert urlsplit(made_up.json()["url"]).netloc == _EVIL
    assert "public" not in made_up.headers.get("cache-control", "")
    assert urlsplit(api.call(ALICE, "GET", path).json()["url"]).netloc == "testserver"


@pytest.mark.parametrize("host", ["evil.example/a?", "evil.example\\@testserver", "a b", "[::1", "evil.example:99999"])
def test_a_host_that_is_none_makes_no_link(host: str, video_id: str, api: KeyedApi) -> None:
    answer = api.call(ALICE, "GET", f"/api/v1/outputs/{video_id}/link", headers={"host": host})
    assert answer.status_code < 500
    assert "\\" not in answer.text.replace('\\"', "")


@pytest.mark.parametrize(
    "path", ["//evil.example", "/%2fevil.example", "/\\evil.example", "/docs//evil.example/", "/?next=//evil.example"]
)
def test_no_redirect_leads_to_another_host(path: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_api(tmp_path_factory.mktemp("redirects")) as client:
        for headers in ({}, {"x-forwarded-prefix": "//evil.example"}, {"x-forwarded-host": _EVIL}):
            answer = client.get(f"http://testserver{path}", headers=headers, follow_redirects=False)
            assert answer.headers.get("location", "/docs") == "/docs"


@pytest.mark.parametrize("header", ["x-http-method-override", "x-http-method", "x-method-override"])
def test_a_header_does_not_change_the_method(header: str, video_id: str, api: KeyedApi) -> None:
    for method in ("GET", "POST"):
        path = f"/api/v1/outputs/{video_id}"
        answer = api.call(ALICE, method, path, headers={header: "DELETE"}, params={"_method": "DELETE"})
        assert answer.status_code == (200 if method == "GET" else 405)
    assert api.call(ALICE, "GET", f"/api/v1/outputs/{video_id}").status_code == 200


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "DEBUG", "PROPFIND", "G" * 5000])
def test_other_methods_are_rejected(method: str, api: KeyedApi) -> None:
    assert api.call(ADMIN, method, "/api/v1/queue").status_code in (400, 405)


@pytest.mark.parametrize("header", ["x-original-url", "x-rewrite-url", "x-forwarded-prefix", "x-forwarded-uri"])
def test_a_header_does_not_change_the_path_that_needs_a_key(header: str, api: KeyedApi) -> None:
    assert api.client.get("/api/v1/queue", headers={header: "/healthz"}).status_code == 401
    assert api.client.get("/healthz", headers={header: "/api/v1/queue"}).json() == {"status": "ok"}


@pytest.mark.parametrize(("path", "name"), _GET_QUERIES)
def test_a_text_for_the_database_is_only_a_text(path: str, name: str, video_id: str, api: KeyedApi) -> None:
    for text in _INJECTIONS:
        answer = api.call(BOB, "GET", path, params={name: text})
        assert answer.status_code in (200, 400, 403, 404), answer.text
        assert video_id not in answer.text
        assert "secret_hash" not in answer.text.replace(text, "")
        assert len(answer.content) < 20_000
    assert api.call(ALICE, "GET", f"/api/v1/generation/{video_id}").status_code == 200


@pytest.mark.parametrize("text", _INJECTIONS)
def test_a_text_for_the_database_in_a_name_is_only_a_text(text: str, api: KeyedApi) -> None:
    answer = api.call(ADMIN, "GET", f"/api/v1/lora/{_quote(text)}/status")
    assert answer.status_code == 404
    fields = {"prompt": text, "metadata": {"a": text[:512]}, "negative_prompt": text[:500]}
    answer = api.call(BOB, "POST", "/api/v1/generation/submit", json=fields)
    if answer.is_success:
        job = api.call(BOB, "GET", f"/api/v1/generation/{answer.json()['task_id']}").json()
        assert (job["prompt"], job["metadata"]) == (text, {"a": text[:512]})


@pytest.mark.parametrize("text", _INJECTIONS)
def test_a_text_for_the_log_makes_no_line_of_its_own(
    text: str, api: KeyedApi, caplog: pytest.LogCaptureFixture
) -> None:
    quoted = _quote(text)
    with caplog.at_level(logging.DEBUG):
        for name in (ADMIN, BOB):
            api.call(name, "POST", f"/api/v1/queue/{quoted}/cancel")
            api.call(name, "DELETE", f"/api/v1/lora/{quoted}")
            api.call(name, "GET", f"/{quoted}")
            api.call(name, "POST", "/api/v1/prompt/enhance", json={"prompt": text})
            api.call(name, "POST", "/api/v1/uploads", files={text[:50]: (text[:50], b"none")})
    ours = [
        record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "python_multipart"))
    ]
    assert any("Admin action delete_lora" in message for message in ours)
    assert [message for message in ours if re.search(r"[\r\n\x1b]", message)] == []


def test_the_words_of_a_prompt_are_not_logged(api: KeyedApi, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        api.submit(BOB, prompt="the words of a prompt")
        api.call(BOB, "POST", "/api/v1/generation/submit", json={"prompt": "the words of a prompt", "steps": 0})
    assert "the words" not in caplog.text
