"""`wan22` against a running service, as a person or a script uses it."""

import fcntl
import json
import os
import pty
import resource
import shlex
import signal
import struct
import subprocess
import termios
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.pictures import png
from tests.service import WAN22, Service, environment, free_port, wait_until
from tests.videos import mp4
from wan22_bridge.media.writer import read_video_info

_QUICK = ["--size", "64x64", "--frames", "5", "--steps", "2"]


def _run(service: Service, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [WAN22, *arguments],
        env=environment(WAN22_URL=service.url),
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )


def _run_in_terminal(service: Service, *arguments: str, columns: int) -> list[str]:
    """Runs a command in a terminal of some width; returns the lines that it prints."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [WAN22, *arguments],
        env=environment(WAN22_URL=service.url, TERM="xterm"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    printed = b""
    try:
        while part := os.read(reader, 65536):
            printed += part
    except OSError:
        pass  # Linux reports the end of a terminal as an error.
    finally:
        os.close(reader)
    assert process.wait(30) == 0, printed
    return printed.decode().splitlines()


def test_generate_saves_the_video_of_a_prompt(service: Service, tmp_path: Path) -> None:
    done = _run(service, "generate", "a red circle moving right", "-o", str(tmp_path / "out.mp4"), *_QUICK)
    assert done.returncode == 0, done.stderr
    assert "Saved" in done.stdout
    assert "generating" in done.stderr
    assert read_video_info(tmp_path / "out.mp4").parameters["prompt"] == "a red circle moving right"
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_generate_sends_images_and_prints_json(service: Service, tmp_path: Path) -> None:
    for name in ("first.png", "last.png"):
        (tmp_path / name).write_bytes(png())
    images = ["--image", "first.png", "--last-image", "last.png"]
    done = _run(service, "generate", "it moves", *images, *_QUICK, "--seed", "9", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    task = json.loads(done.stdout)
    assert (task["model"], task["seed"], task["status"]) == ("tiny-i2v", 9, "completed")
    assert read_video_info(tmp_path / task["file"]).num_frames == 5


def test_generate_regenerates_and_continues_a_video(service: Service, tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_bytes(mp4())
    for model, arguments in (
        ("tiny-t2v", ["--video", "in.mp4", "--strength", "0.6", "--steps", "5"]),
        ("tiny-i2v", ["--image", "in.mp4", "--steps", "2"]),
    ):
        done = _run(service, "generate", "it rains", *arguments, "--size", "64x64", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        task = json.loads(done.stdout)
        assert (task["model"], task["status"]) == (model, "completed")
        assert task["strength"] == (0.6 if model == "tiny-t2v" else None)
        assert read_video_info(tmp_path / task["file"]).num_frames == (13 if model == "tiny-t2v" else 17)


def test_generate_saves_several_videos_with_numbers(service: Service, tmp_path: Path) -> None:
    done = _run(service, "generate", "x", *_QUICK, "--count", "2", "--seed", "9", "-o", "a.mp4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seeds = [read_video_info(tmp_path / name).parameters["seed"] for name in ("a-1.mp4", "a-2.mp4")]
    assert seeds == [9, 10]
    assert len(list(tmp_path.iterdir())) == 2


def test_generate_names_the_file_after_the_job_by_default(service: Service, tmp_path: Path) -> None:
    assert _run(service, "generate", "x", *_QUICK, cwd=tmp_path).returncode == 0
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["generate", " "], 2, "prompt is empty"),
        (["generate", "x", "--model", "sora"], 2, "no model 'sora'"),
        (["generate", "x", "--size", "abc"], 2, "not a size"),
        (["generate", "x", "--steps", "101"], 2, "steps"),
        (["generate", "x", "-o", "/nonexistent/a.mp4"], 2, "/nonexistent/a.mp4"),
        (["generate", "x", "-o", "x" * 300], 2, "File name too long"),
        (["generate", "x", "-o", "a/"], 2, "expected a file, got a folder"),
        (["generate", "x", "--image", "/nonexistent.png"], 2, "does not exist"),
        (["generate", "x", "--video", "/nonexistent.mp4"], 2, "does not exist"),
        (["generate", "x", "--video", __file__], 2, "complete mp4 file"),
        (["generate", "x", "--strength", "0.5"], 2, "no video was sent"),
        (["generate"], 2, "expected a prompt"),
        (["cancel", "nope"], 2, "no job 'nope'"),
        (["jobs", "--status", "asleep"], 2, "status"),
        (["serve", "--config", "/nonexistent.yaml"], 2, "cannot be read"),
        (["serve", "--port", "0"], 2, "port"),
    ],
)
def test_a_wrong_request_is_reported_on_stderr(service: Service, arguments: list[str], code: int, message: str) -> None:
    done = _run(service, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_commands_without_a_service_say_how_to_start_it(service: Service) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for arguments in (["generate", "x"], ["jobs"], ["models", "served"], ["cancel", "x"]):
        done = _run(service, *arguments, "--url", url)
        assert done.returncode == 1
        assert f"Cannot reach the service at {url}" in done.stderr
        assert "wan22 serve" in done.stderr


def test_ctrl_c_of_generate_cancels_the_job(service: Service, tmp_path: Path) -> None:
    size = ["--size", "192x192", "--frames", "33", "--steps", "100"]
    command = [WAN22, "generate", "long", *size, "-o", str(tmp_path / "a.mp4")]
    process = subprocess.Popen(
        command, env=environment(WAN22_URL=service.url), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def running() -> str | None:
        with service.client() as client:
            task = client.get("/api/v1/queue").json()["current_task"]
        return task["id"] if task and task["prompt"] == "long" and task["current_step"] else None

    task_id = wait_until(running)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Cancelling" in said
    service.wait_for(task_id, "cancelled")
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_can_contain_markup_line_breaks_and_escape_sequences(service: Service, tmp_path: Path) -> None:
    prompt = "[/red] [bold]\u2028 „x“ \\ 🎈\n:cat:"
    done = _run(service, "generate", prompt, "-o", str(tmp_path / "a.mp4"), *_QUICK)
    assert done.returncode == 0, done.stderr
    assert read_video_info(tmp_path / "a.mp4").parameters["prompt"] == prompt
    assert "[/red]" in _run(service, "jobs").stdout


def test_generate_writes_to_a_pipe(service: Service, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit((tmp_path / "pipe").read_bytes)
        assert _run(service, "generate", "x", "-o", str(tmp_path / "pipe"), *_QUICK).returncode == 0
        assert reader.result(10)[4:8] == b"ftyp"
    assert (tmp_path / "pipe").is_fifo()


def test_another_server_is_reported_as_not_a_wan22_service(service: Service, tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "models").write_text("<html>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever)
        url = f"http://127.0.0.1:{server.server_port}"
        for arguments in (["models", "served"], ["jobs"], ["generate", "x"], ["cancel", "x"]):
            done = _run(service, *arguments, "--url", url)
            assert done.returncode == 1
            assert url in done.stderr
            assert "Traceback" not in done.stderr
        server.shutdown()
    assert "not a URL" in _run(service, "jobs", "--url", "http://[::1").stderr


def test_jobs_models_and_version_print_tables_and_json(service: Service) -> None:
    task = service.finished()
    assert task["id"] in _run(service, "jobs").stdout
    assert json.loads(_run(service, "jobs", "--limit", "1", "--json").stdout)[0]["id"] == task["id"]
    assert "tiny-ti2v" in _run(service, "models", "served").stdout
    assert len(json.loads(_run(service, "models", "served", "--json").stdout)) == 3
    assert _run(service, "version").stdout.strip() == "0.1.0"
    assert "already completed" in _run(service, "cancel", task["id"]).stderr


def test_jobs_prints_one_line_for_each_job_at_80_columns(service: Service) -> None:
    prompt = "a red circle moving right on a navy background " * 10 + "\x1b]0;title\x07\u202e\n日本語 🎈"
    service.finished(prompt=prompt)
    [job_id] = [task["id"] for task in json.loads(_run(service, "jobs", "--limit", "1", "--json").stdout)]

    lines = _run_in_terminal(service, "jobs", "--limit", "1", columns=80)
    assert len(lines) == 2
    assert lines[1].startswith(f"{job_id} completed tiny-t2v")
    assert "64x64 a red circle" in lines[1]
    assert lines[1].endswith("…")
    assert len(lines[1]) == 80

    [_, piped] = _run(service, "jobs", "--limit", "1").stdout.splitlines()
    assert piped.endswith("\\x1b]0;title\\x07\\u202e 日本語 🎈")
    assert _run_in_terminal(service, "jobs", "--limit", "1", columns=1000)[1].split() == piped.split()


def test_a_full_disk_is_reported_with_the_command_that_fetches_the_video_again(
    service: Service, tmp_path: Path
) -> None:
    limit = 1000  # A limit on the size of files stands in for the disk: writing fails with an OSError too.
    done = subprocess.run(
        [WAN22, "generate", "a red circle", "-o", "a.mp4", *_QUICK],
        env=environment(WAN22_URL=service.url),
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (done.returncode, done.stdout) == (1, "")
    error, again = done.stderr.splitlines()[-2:]
    assert error == "Error: Cannot save the video as 'a.mp4': File too large."
    assert list(tmp_path.iterdir()) == []

    url = shlex.split(again)[-1]
    with service.client() as client:
        assert client.get(url).content[4:8] == b"ftyp"
