"""`wan22 generate`, `jobs`, `cancel` and `models served` against a service whose answers are hostile."""

import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from serve_app.cli.main import app
from serve_app.cli.terminal import errors

EVIL = "\x1b[2Jtext\x07\x9b31m\u202e\nline"
SAFE = "\\x1b[2Jtext\\x07\\x9b31m\\u202e line"
JOB_ID = "video_1"
_COMMANDS = (
    ["jobs"],
    ["cancel", "x"],
    ["generate", "x"],
    ["generate", "x", "--count", "2"],
    ["models", "served"],
)


def make_task(**changes: Any) -> dict[str, Any]:
    task = {"id": JOB_ID, "status": "completed", "stage": EVIL, "progress": 100.0, "model": EVIL, "prompt": EVIL}
    task |= {"resolution": EVIL, "num_frames": 5, "fps": 16, "seed": 1, "current_step": 1, "total_steps": 2}
    task |= {"eta_seconds": None, "error": None, "result": {"generation_time_seconds": 1.0}}
    return task | changes


class FakeService(ThreadingHTTPServer):
    """Answers each request with a prepared body, and records the requests' paths."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[str] = []
        self.status = 200
        self.job_id = JOB_ID
        self.task = make_task()

    def answer(self, path: str) -> bytes:
        """Returns the body for a path."""
        if path.endswith("/events"):
            return f"event: task\ndata: {json.dumps(self.task)}\n\n".encode()
        if path.endswith("/video"):
            return b"the video"
        if self.status != 200:
            return json.dumps({"error": {"message": EVIL, "suggestions": [EVIL]}}).encode()
        model = {"id": EVIL, "model_type": EVIL, "image": EVIL, "end_image": True, "size": EVIL, "num_frames": 5}
        model |= {"fps": 16, "steps": 2, "presets": [EVIL]}
        body = {"task_id": self.job_id, "tasks": [self.task], "message": EVIL, "data": [model]}
        body |= {"task_ids": [JOB_ID, self.job_id], "batch_id": EVIL}
        return json.dumps(self.task | body).encode()


class _Handler(BaseHTTPRequestHandler):
    server: FakeService

    def do_GET(self) -> None:
        body = self.server.answer(self.path)
        self.server.requests.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_arguments: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.chdir(tmp_path)
    with FakeService() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(fake: FakeService, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--url", fake.url], env=environment)


def is_clean(text: str) -> bool:
    return not re.search(r"[^\x20-\x7e\n…]", text)


def test_no_command_prints_control_characters(fake: FakeService) -> None:
    for arguments in _COMMANDS:
        done = run(fake, *arguments)
        assert done.exit_code == 0, done.output
        assert SAFE in done.output
        assert is_clean(done.output)


def test_no_error_prints_control_characters(fake: FakeService) -> None:
    for status, code in ((400, 2), (500, 1)):
        fake.status = status
        for arguments in _COMMANDS:
            done = run(fake, *arguments)
            assert done.exit_code == code
            assert done.stderr == f"Error: {SAFE.replace(' line', '')}\n  line\n  {SAFE}\n"
    fake.status = 200
    fake.task = make_task(status="failed", error={"message": EVIL, "suggestions": [EVIL]})
    for options in ([], ["--count", "2"]):
        done = run(fake, "generate", "x", *options)
        assert done.exit_code == 1
        assert is_clean(done.output)


def test_json_is_exact(fake: FakeService) -> None:
    assert json.loads(run(fake, "jobs", "--json").stdout) == [fake.task]
    assert json.loads(run(fake, "models", "served", "--json").stdout)[0]["id"] == EVIL
    assert json.loads(run(fake, "generate", "x", "--json").stdout)["prompt"] == EVIL


def test_a_job_takes_one_line(fake: FakeService) -> None:
    fake.task = make_task(
        id="video_" + "0" * 24,
        status="processing",
        progress=45.4,
        model="tiny-t2v",
        resolution="64x64",
        prompt="x" * 500,
    )
    assert run(fake, "jobs").stdout.splitlines() == [
        "job                            status model    size  prompt",
        f"video_{'0' * 24} 45 %   tiny-t2v 64x64 {'x' * 500}",
    ]


@pytest.mark.parametrize("job_id", ["../evil", "/tmp/evil", "a\0b", "", "..", "a\x1b"])
def test_a_job_id_that_is_a_path_is_rejected(fake: FakeService, job_id: str, tmp_path: Path) -> None:
    fake.job_id = job_id
    for options in ([], ["--count", "2"]):
        done = run(fake, "generate", "x", *options)
        assert done.exit_code == 1
        assert "it is not a wan22 service" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_job_id_is_one_part_of_the_path(fake: FakeService) -> None:
    assert run(fake, "cancel", "../../v1/models?").exit_code == 0
    assert fake.requests == ["/api/v1/queue/..%2F..%2Fv1%2Fmodels%3F/cancel"]


@pytest.mark.parametrize("name", ["x" * 256, "a\0b", "clip/", ".", "missing/a.mp4", "/proc/a.mp4"])
def test_an_unusable_output_is_rejected_before_submission(fake: FakeService, name: str) -> None:
    done = run(fake, "generate", "x", "-o", name)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: Cannot save a video as ")
    assert done.stderr.count("\n") == 1
    assert fake.requests == []


def test_without_a_name_the_working_folder_is_checked(fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    done = run(fake, "generate", "x")
    assert (done.exit_code, fake.requests) == (2, [])
    assert done.stderr.startswith("Error: Cannot save a video in the folder '/proc': ")


def test_a_failed_save_says_how_to_fetch_the_video_again(
    fake: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    follow = fake.answer

    def remove_folder(path: str) -> bytes:
        if path.endswith("/events"):
            folder.rmdir()
        return follow(path)

    monkeypatch.setattr(fake, "answer", remove_folder)
    done = run(fake, "generate", "x", "-o", "folder/a.mp4")
    assert done.exit_code == 1
    error, again = done.stderr.splitlines()[-2:]
    assert error == "Error: Cannot save the video as 'folder/a.mp4': No such file or directory."
    assert again.endswith(f"curl --fail --output {JOB_ID}.mp4 {fake.url}/api/v1/outputs/{JOB_ID}/video")
    assert os.listdir(tmp_path) == []


def test_progress_in_a_terminal_has_no_escape_sequence_of_the_service(
    fake: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "is_interactive", True)
    done = run(fake, "generate", "x", FORCE_COLOR="1", TERM="xterm", COLUMNS="200")
    assert done.exit_code == 0
    assert "\\x1b[2Jtext" in done.stderr
    assert not any(part in done.output for part in ("\x1b[2J", "\x07", "\x9b", "\u202e"))


def test_a_strength_of_a_lora_that_is_no_number_is_rejected(fake: FakeService) -> None:
    done = run(fake, "generate", "x", "--lora", "neon=much")
    assert (done.exit_code, fake.requests) == (2, [])
    assert "neon:0.8" in done.stderr
