"""`wan22` as a person or a script uses it."""

import json
import os
import signal
import subprocess
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


def test_a_prompt_becomes_a_file(service: Service, tmp_path: Path) -> None:
    done = _run(service, "generate", "a red circle moving right", "-o", str(tmp_path / "out.mp4"), *_QUICK)
    assert done.returncode == 0, done.stderr
    assert "Saved" in done.stdout
    assert "generating" in done.stderr
    assert read_video_info(tmp_path / "out.mp4").parameters["prompt"] == "a red circle moving right"
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_images_and_json(service: Service, tmp_path: Path) -> None:
    for name in ("first.png", "last.png"):
        (tmp_path / name).write_bytes(png())
    images = ["--image", "first.png", "--last-image", "last.png"]
    done = _run(service, "generate", "it moves", *images, *_QUICK, "--seed", "9", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    task = json.loads(done.stdout)
    assert (task["model"], task["seed"], task["status"]) == ("tiny-i2v", 9, "completed")
    assert read_video_info(tmp_path / task["file"]).num_frames == 5


def test_a_video_is_made_anew_or_goes_on(service: Service, tmp_path: Path) -> None:
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


def test_a_default_name_is_the_jobs(service: Service, tmp_path: Path) -> None:
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
        (["generate", "x", "--image", "/nonexistent.png"], 2, "does not exist"),
        (["generate", "x", "--video", "/nonexistent.mp4"], 2, "does not exist"),
        (["generate", "x", "--video", __file__], 2, "whole mp4 file"),
        (["generate", "x", "--strength", "0.5"], 2, "no video was sent"),
        (["generate"], 2, "Missing argument"),
        (["cancel", "nope"], 2, "no job 'nope'"),
        (["jobs", "--status", "asleep"], 2, "status"),
        (["serve", "--config", "/nonexistent.yaml"], 2, "cannot be read"),
        (["serve", "--port", "0"], 2, "port"),
    ],
)
def test_what_is_wrong_is_said_on_stderr(service: Service, arguments: list[str], code: int, message: str) -> None:
    done = _run(service, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_without_a_service_it_says_how_to_start_one(service: Service) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for arguments in (["generate", "x"], ["jobs"], ["models", "served"], ["cancel", "x"]):
        done = _run(service, *arguments, "--url", url)
        assert done.returncode == 1
        assert f"Can't reach the service at {url}" in done.stderr
        assert "wan22 serve" in done.stderr


def test_ctrl_c_cancels_the_job(service: Service, tmp_path: Path) -> None:
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


def test_a_prompt_may_hold_anything(service: Service, tmp_path: Path) -> None:
    prompt = "[/red] [bold]\u2028 „x“ \\ 🎈"
    done = _run(service, "generate", prompt, "-o", str(tmp_path / "a.mp4"), *_QUICK)
    assert done.returncode == 0, done.stderr
    assert read_video_info(tmp_path / "a.mp4").parameters["prompt"] == prompt
    assert "[/red]" in _run(service, "jobs").stdout


def test_a_pipe_is_written_to_and_stays_a_pipe(service: Service, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit((tmp_path / "pipe").read_bytes)
        assert _run(service, "generate", "x", "-o", str(tmp_path / "pipe"), *_QUICK).returncode == 0
        assert reader.result(10)[4:8] == b"ftyp"
    assert (tmp_path / "pipe").is_fifo()


def test_another_server_is_recognised_as_none_of_ours(service: Service, tmp_path: Path) -> None:
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


def test_jobs_models_and_version(service: Service) -> None:
    task = service.finished()
    assert task["id"] in _run(service, "jobs").stdout
    assert json.loads(_run(service, "jobs", "--limit", "1", "--json").stdout)[0]["id"] == task["id"]
    assert "tiny-ti2v" in _run(service, "models", "served").stdout
    assert len(json.loads(_run(service, "models", "served", "--json").stdout)) == 3
    assert _run(service, "version").stdout.strip() == "0.1.0"
    assert "already completed" in _run(service, "cancel", task["id"]).stderr
