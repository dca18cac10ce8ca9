"""A language model behind a real HTTP server enhances prompts, and its failures are reported."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.service import free_port
from wan22_bridge.errors import InvalidRequest, NotReady
from wan22_bridge.prompting import ChatEndpoint, Enhancement, EnhanceOptions, enhance_by_chat


class ChatServer(ThreadingHTTPServer):
    """Speaks the chat API with a prepared answer, and records the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.status = 200
        self.body = answer("A cat runs.")
        self.delay = threading.Event()
        self.delay.set()
        self.requests: list[tuple[str, str | None, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers.get("Authorization"), sent))
        self.server.delay.wait(10)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_arguments: object) -> None:
        """Keeps the test's output clean."""


def answer(content: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.delay.set()
        running.shutdown()
        thread.join()


def ask(server: ChatServer, prompt: str = " a cat ", *, timeout: float = 10, **options: Any) -> Enhancement:
    endpoint = ChatEndpoint(url=server.url + "/", model="tiny", api_key="secret", timeout_seconds=timeout)
    return asyncio.run(enhance_by_chat(prompt, EnhanceOptions(**options), endpoint))


def test_the_model_gets_the_rules_and_the_prompt(server: ChatServer) -> None:
    found = ask(server)
    assert (found.original, found.enhanced, found.applied) == ("a cat", "A cat runs.", ["rewritten by tiny"])
    path, key, sent = server.requests[0]
    assert (path, key, sent["model"]) == ("/v1/chat/completions", "Bearer secret", "tiny")
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert sent["messages"][1]["content"] == "a cat"
    assert "Never contradict" in sent["messages"][0]["content"]


def test_options_become_instructions(server: ChatServer) -> None:
    ask(server, apply_cinematic=False, style="anime")
    ask(server, apply_style=False)
    first, second = (request[2]["messages"][0]["content"] for request in server.requests)
    assert "Do not add light" in first
    assert "anime style" in first
    assert "Do not add a style" in second


@pytest.mark.parametrize("content", ['"A cat runs."', "<think>hm\n</think>\n\nA cat runs.\n"])
def test_quotation_marks_and_reasoning_are_removed(content: str, server: ChatServer) -> None:
    server.body = answer(content)
    assert ask(server).enhanced == "A cat runs."


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, b"secret path /srv", "HTTP status 500"),
        (401, b"{}", "HTTP status 401"),
        (200, b"no JSON", "not one of OpenAI's chat API"),
        (200, b"[]", "not one of OpenAI's chat API"),
        (200, b'{"choices": []}', "not one of OpenAI's chat API"),
        (200, answer(None), "not one of OpenAI's chat API"),
        (200, answer(""), "prompt is empty"),
        (200, answer("x" * 2001), "at most 2000"),
        (200, answer("a\0b"), "not valid text"),
    ],
)
def test_an_unusable_answer_is_an_error_that_may_be_retried(
    status: int, body: bytes, reason: str, server: ChatServer
) -> None:
    server.status, server.body = status, body
    with pytest.raises(NotReady, match=reason) as raised:
        ask(server)
    assert (raised.value.code, raised.value.can_retry) == ("prompt_enhancer_unavailable", True)
    assert "/srv" not in raised.value.message


def test_a_slow_model_times_out(server: ChatServer) -> None:
    server.delay.clear()
    with pytest.raises(NotReady, match=r"did not answer within 0\.2 s"):
        ask(server, timeout=0.2)


def test_an_unreachable_model_is_an_error() -> None:
    endpoint = ChatEndpoint(url=f"http://127.0.0.1:{free_port()}", model="tiny", api_key=None, timeout_seconds=5)
    with pytest.raises(NotReady, match="can't be reached"):
        asyncio.run(enhance_by_chat("a cat", EnhanceOptions(), endpoint))


@pytest.mark.parametrize(("prompt", "style", "code"), [("", None, "prompt_empty"), ("a", "nope", "unknown_style")])
def test_a_wrong_request_never_reaches_the_model(prompt: str, style: str | None, code: str, server: ChatServer) -> None:
    with pytest.raises(InvalidRequest) as raised:
        ask(server, prompt, style=style)
    assert (raised.value.code, server.requests) == (code, [])
