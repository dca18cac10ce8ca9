"""`wan22 loras`, `wan22 upload` and `wan22 outputs` against the real API, and the options of `wan22 generate`."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deployments.jobs.job import JobState
from deployments.jobs.store import JobStore
from deployments.storage.keys import output_key
from serve_app.api.schemas.submissions import LoraField
from serve_app.cli.jobs import parse_lora
from serve_app.cli.main import app
from tests.http_api import serving_api
from tests.jobs import make_job, make_params
from tests.loras import write_lora
from tests.pictures import png
from tests.service import wait_until


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with serving_api(tmp_path) as found:
        yield found


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--url", url])


def test_a_lora_is_uploaded_listed_and_deleted(url: str, tmp_path: Path) -> None:
    write_lora(tmp_path / "a_HIGH.safetensors", metadata={"modelspec.trigger_phrase": "glow"})
    write_lora(tmp_path / "b.safetensors")
    assert run(url, "loras", "upload", str(tmp_path / "a_HIGH.safetensors")).stdout == (
        "Stored a for the high-noise expert. Models that can use it: tiny-t2v, tiny-i2v, tiny-ti2v.\n"
    )
    low = run(url, "loras", "upload", str(tmp_path / "b.safetensors"), "--name", "a", "--expert", "low_noise", "--json")
    assert json.loads(low.stdout)["file_path"] == "loras/a.low_noise.safetensors"

    lines = run(url, "loras", "list").stdout.splitlines()
    assert lines[0].split() == ["lora", "size", "experts", "fits", "trigger", "words"]
    assert "high + low tiny-t2v, tiny-i2v, tiny-ti2v glow" in " ".join(lines[1].split())
    assert json.loads(run(url, "loras", "list", "--json").stdout)[0]["name"] == "a"

    again = run(url, "loras", "upload", str(tmp_path / "a_HIGH.safetensors"))
    assert (again.exit_code, again.stderr.splitlines()[0]) == (2, "Error: There is a LoRA a already.")
    assert run(url, "loras", "upload", str(tmp_path / "a_HIGH.safetensors"), "--replace").exit_code == 0
    assert run(url, "loras", "delete", "a").stdout == "Deleted.\n"
    gone = run(url, "loras", "delete", "a")
    assert (gone.exit_code, gone.stderr.splitlines()[0]) == (2, "Error: There is no LoRA 'a'.")
    assert run(url, "loras", "upload", str(tmp_path / "missing")).exit_code == 2


def test_an_upload_prints_its_id(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(64, 64))
    (tmp_path / "a.txt").write_text("x")
    done = run(url, "upload", str(tmp_path / "a.png"))
    upload_id = done.stdout.strip()
    assert (done.exit_code, len(upload_id)) == (0, 64)
    assert json.loads(run(url, "upload", str(tmp_path / "a.png"), "--json").stdout)["id"] == upload_id
    assert (tmp_path / "data" / "inputs" / upload_id).read_bytes() == png(64, 64)
    assert run(url, "upload", str(tmp_path / "a.txt")).exit_code == 2


def make_video(tmp_path: Path) -> str:
    """Stores a completed job with a video, and returns its id."""
    store = JobStore(f"sqlite:///{tmp_path}/data/jobs.db")
    job_id = store.writer.submit(make_job(params=make_params(prompt="a cat"))).id
    claimed = store.runner.claim(job_id, lease_seconds=60)
    assert claimed is not None
    folder = output_key(job_id, claimed.fencing_token)
    (tmp_path / "data" / folder).mkdir(parents=True)
    (tmp_path / "data" / folder / "video.mp4").write_bytes(b"the video")
    output: dict[str, Any] = {"folder": folder, "video": "video.mp4", "file_size_bytes": 9}
    result = {"generation_time_seconds": 1.0, "parameters_used": {}}
    store.runner.complete(job_id, claimed.fencing_token, output=output, result=result)
    store.database.close()
    return job_id


def test_a_video_is_listed_downloaded_and_deleted(url: str, tmp_path: Path) -> None:
    video = make_video(tmp_path)
    lines = run(url, "outputs", "list").stdout.splitlines()
    assert lines[1].split() == [video, "T2V-A14B", "64x64", "0.3", "s", "0.0", "MB", "a", "cat"]
    assert json.loads(run(url, "outputs", "list", "--json").stdout)[0]["id"] == video
    assert run(url, "outputs", "download", video).stdout == f"Saved {video}.mp4.\n"
    assert Path(f"{video}.mp4").read_bytes() == b"the video"
    assert run(url, "outputs", "download", video, "-o", "a.mp4").stdout == "Saved a.mp4.\n"
    assert Path("a.mp4").read_bytes() == b"the video"
    assert run(url, "outputs", "download", video, "-o", "missing/a.mp4").exit_code == 2
    assert run(url, "outputs", "delete", video).stdout == "Deleted.\n"
    for arguments in (["download", video, "-o", "b.mp4"], ["delete", video]):
        gone = run(url, "outputs", *arguments)
        assert (gone.exit_code, gone.stderr.splitlines()[0]) == (2, f"Error: There is no job {video!r}.")
    assert not Path("b.mp4").exists()


def test_generation_options_reach_the_request(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(64, 64))
    options = ["--negative-prompt", "", "--scheduler", "dpm++", "--step-cache", "first_block", "--fps", "12"]
    options += ["--guidance", "2.5", "--guidance-2", "1.5", "--size", "64x64"]
    store = JobStore(f"sqlite:///{tmp_path}/data/jobs.db")

    def cancel_next() -> None:
        job = wait_until(lambda: store.reader.page(states=[JobState.PENDING], limit=1), seconds=20)[0]
        store.writer.request_cancel(job.id)

    lora, image = ["--lora", "tiny-neon:0.8:0.4"], ["--image", str(tmp_path / "a.png")]
    for inputs in (lora, [*lora, *image]):  # as JSON, and as a form
        with ThreadPoolExecutor() as pool:
            cancelled = pool.submit(cancel_next)  # no generator runs here, so the command would wait for ever
            done = run(url, "generate", "a cat", *options, *inputs)
            assert "The job was cancelled." in done.stderr, done.output
            cancelled.result()
        assert done.exit_code == 1
        params = store.reader.page(limit=1)[0].params
        assert params.model_type == ("T2V-A14B" if inputs is lora else "I2V-A14B")
        assert (params.negative_prompt, params.scheduler, params.step_cache) == ("", "dpm++", "first_block")
        assert (params.fps, params.guidance_scale, params.guidance_scale_2) == (12, 2.5, 1.5)
        uses = [(use.name, use.high_noise_strength, use.low_noise_strength) for use in params.loras]
        assert uses == [("tiny-neon", 0.8, 0.4)]
    store.database.close()


@pytest.mark.parametrize(
    ("text", "high", "low"), [("tiny-neon", 1.0, 1.0), ("tiny-neon:0.8", 0.8, 0.8), ("tiny-neon=0.8:0.2", 0.8, 0.2)]
)
def test_a_lora_has_one_or_two_strengths(text: str, high: float, low: float) -> None:
    use = LoraField.model_validate(parse_lora(text)).to_use()
    assert (use.name, use.high_noise_strength, use.low_noise_strength) == ("tiny-neon", high, low)


@pytest.mark.parametrize("text", ["a:", "a:b", "a:1:2:3", "a:1:b"])
def test_wrong_strengths_are_rejected(text: str, url: str) -> None:
    done = run(url, "generate", "a cat", "--lora", text)
    assert done.exit_code == 2
    assert "NAME[:STRENGTH[:STRENGTH_2]]" in " ".join(done.stderr.split())


def test_the_shell_completes_commands_and_options() -> None:
    for words, count, expected in (("wan22 lor", 1, "loras"), ("wan22 generate --sch", 2, "--scheduler")):
        environment = {"_WAN22_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
        done = CliRunner().invoke(app, [], env=environment, prog_name="wan22")
        assert done.stdout.split() == [expected]
