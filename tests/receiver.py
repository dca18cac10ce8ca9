"""Test server that receives webhooks over real HTTP, and responds as a test wants."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True, kw_only=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    """By lower-case names."""
    body: bytes

    def verify(self, secret: str) -> dict[str, Any]:
        """Returns the payload, after a check of the signature as receivers do it."""
        payload: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return payload


@dataclass
class Receiver:
    """State of the server: its next responses, and the requests so far."""

    url: str = ""
    status: int = 200
    """Status of all responses."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers of all responses."""
    content: bytes = b"ok"
    """Body of all responses."""
    requests: list[Received] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released once for each request."""
    answering: threading.Event = field(default_factory=threading.Event)
    """Responses wait for it."""

    def wait(self, seconds: float = 20) -> Received:
        """Waits for the next request and returns it."""
        assert self.arrived.acquire(timeout=seconds), "no webhook arrived"
        return self.requests[-1]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Runs a receiver on a port of its own while the context is open."""
    receiver = Receiver()
    receiver.answering.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.requests.append(Received(path=self.path, headers=headers, body=body))
            receiver.arrived.release()
            receiver.answering.wait()
            try:
                self.send_response(receiver.status)
                for name, value in ({"Content-Length": str(len(receiver.content))} | dict(receiver.headers)).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(receiver.content)
            except OSError:
                pass  # the client closed the connection

        do_GET = do_PUT = do_DELETE = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.answering.set()
        server.shutdown()
        server.server_close()
        thread.join()
