"""Test server that serves a folder like the Hugging Face Hub, over real HTTP, with faults on demand.

It implements the revisions, redirects, ETags and ranges that `huggingface_hub` uses.
"""

import hashlib
import json
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REPOSITORY = "wan/tiny"
COMMIT = "1" * 40
_LARGE = (".safetensors",)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Fault of one response."""

    status: int | None = None
    """Status of an error response without content."""
    cut_after: int | None = None
    """Number of bytes after which the connection is closed."""
    wrong_byte: bool = False
    """Whether the first byte is changed."""
    drip_seconds: float | None = None
    """Wait in seconds after each kilobyte."""


@dataclass
class HubServer:
    """State of the server: the faults to come, and the requests so far."""

    folder: Path
    url: str = ""
    faults: defaultdict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    """Faults of the next requests for each file's content."""
    describing: deque[Fault] = field(default_factory=deque)
    """Faults of the next requests for the model's file list."""
    asked: Counter[str] = field(default_factory=Counter)
    """Number of requests for each file's content."""
    ranges: list[tuple[str, int]] = field(default_factory=list)
    """Name and first byte of each request for a part of a file."""
    sent: int = 0
    """Number of content bytes sent."""
    tokens: list[tuple[str, str | None]] = field(default_factory=list)
    """Path of each request, and its header Authorization."""
    cdn_url: str | None = None
    """Address of the server of the large files; by default this one."""
    without_hashes: bool = False
    """Whether the model's file list has no hashes of small files."""

    def describe(self) -> dict[str, Any]:
        """Returns the hub's description of the model, with its file list."""
        siblings = []
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            sibling: dict[str, Any] = {"rfilename": path.relative_to(self.folder).as_posix(), "size": len(content)}
            sibling |= {} if self.without_hashes else {"blobId": blob}
            if path.suffix in _LARGE:
                sha256 = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": siblings, "tags": []}


@contextmanager
def serving_hub(folder: Path) -> Iterator[HubServer]:
    """Serves `folder` as `wan/tiny` within the context."""
    hub = HubServer(folder)

    class Handler(_Handler):
        server_hub = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server_hub, unquote(urlsplit(self.path).path)
        hub.tokens.append((path, self.headers.get("Authorization")))
        api, resolve = f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/{COMMIT}/"
        name = path.removeprefix(resolve).removeprefix("/cdn/")
        if path in (api, f"{api}/revision/{COMMIT}", f"{api}/revision/main"):
            fault = hub.describing.popleft() if hub.describing else Fault()
            self._answer(fault.status or 200, b"" if fault.status else json.dumps(hub.describe()).encode())
        elif name == path or not (hub.folder / name).is_file():
            error = "RepoNotFound" if path.startswith("/api") else "EntryNotFound"
            self._answer(404, b"not found", {"X-Error-Code": error})
        elif path.startswith(resolve) and name.endswith(_LARGE):
            self._redirect(name)
        else:
            self._send_file(name)

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _redirect(self, name: str) -> None:
        content = (self.server_hub.folder / name).read_bytes()
        headers = {
            "Location": f"{self.server_hub.cdn_url or self.server_hub.url}/cdn/{name}",
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Linked-Size": str(len(content)),
        }
        self._answer(302, b"", headers)

    def _send_file(self, name: str) -> None:
        hub, content = self.server_hub, (self.server_hub.folder / name).read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if self.command == "HEAD":
            self._answer(200, content, headers)
            return
        hub.asked[name] += 1
        fault = hub.faults[name].popleft() if hub.faults[name] else Fault()
        if fault.status is not None:
            self._answer(fault.status, b"", {"Retry-After": "0"})
            return
        if fault.wrong_byte:
            content = bytes([content[0] ^ 1]) + content[1:]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start:
            hub.ranges.append((name, start))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if start else 200)
        for key, value in (headers | {"Content-Length": str(len(content) - start)}).items():
            self.send_header(key, value)
        self.end_headers()
        self._send(content[start:], fault)

    def _send(self, content: bytes, fault: Fault) -> None:
        sent = content if fault.cut_after is None else content[: fault.cut_after]
        try:
            if fault.drip_seconds is None:
                self.wfile.write(sent)
                self.server_hub.sent += len(sent)
            else:
                for start in range(0, len(sent), 1024):
                    self.wfile.write(sent[start : start + 1024])
                    self.server_hub.sent += len(sent[start : start + 1024])
                    time.sleep(fault.drip_seconds)
        except OSError:
            pass  # the client closed the connection
        if fault.cut_after is not None:
            self.close_connection = True
            self.connection.shutdown(2)
