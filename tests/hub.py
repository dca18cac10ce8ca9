"""A hub for tests: serves a folder as a model the way the Hugging Face Hub does, over real HTTP, with faults on demand.

Revisions, resolve redirects, ETag and Range are as `huggingface_hub` asks for them.
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
    """What goes wrong with one request for a file's content."""

    status: int | None = None
    """Answers with it and nothing else."""
    cut_after: int | None = None
    """Closes the connection after so many bytes."""
    wrong_byte: bool = False
    """Gives another first byte."""
    drip_seconds: float | None = None
    """Gives a kilobyte, waits so long, and so on."""


@dataclass
class HubServer:
    """The server."""

    folder: Path
    url: str = ""
    faults: defaultdict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    """For each file, one for each of the next requests for its content."""
    describing: deque[Fault] = field(default_factory=deque)
    """Likewise for the description of the model."""
    asked: Counter[str] = field(default_factory=Counter)
    """How often each file's content was asked for."""
    ranges: list[tuple[str, int]] = field(default_factory=list)
    """The requests that began after the start of a file."""
    sent: int = 0
    """Bytes of content."""

    def describe(self) -> dict[str, Any]:
        """What the hub tells of the model."""
        siblings = []
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            sibling: dict[str, Any] = {"rfilename": path.relative_to(self.folder).as_posix(), "size": len(content)}
            sibling |= {"blobId": blob}
            if path.suffix in _LARGE:
                sha256 = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": siblings, "tags": []}


@contextmanager
def serving_hub(folder: Path) -> Iterator[HubServer]:
    """Serves `folder` as `wan/tiny` for the time of the context."""
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
            self._give(name)

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
            "Location": f"{self.server_hub.url}/cdn/{name}",
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Linked-Size": str(len(content)),
        }
        self._answer(302, b"", headers)

    def _give(self, name: str) -> None:
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
        given = content if fault.cut_after is None else content[: fault.cut_after]
        try:
            if fault.drip_seconds is None:
                self.wfile.write(given)
                self.server_hub.sent += len(given)
            else:
                for start in range(0, len(given), 1024):
                    self.wfile.write(given[start : start + 1024])
                    self.server_hub.sent += len(given[start : start + 1024])
                    time.sleep(fault.drip_seconds)
        except OSError:
            pass  # the client has gone
        if fault.cut_after is not None:
            self.close_connection = True
            self.connection.shutdown(2)
