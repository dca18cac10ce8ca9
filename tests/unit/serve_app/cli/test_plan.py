"""`wan22 plan` on machines that exist only in its options."""

import json

import pytest
from typer.testing import CliRunner

from serve_app.cli.main import app

pytestmark = pytest.mark.slow


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", *arguments], env={"COLUMNS": "200", "TERM": "dumb"})
    return result.exit_code, result.output


def test_a_plan_says_where_each_component_is_and_why() -> None:
    code, text = run("--model", "wan2.2-t2v-a14b", "--size", "832x480", "--gpu", "24", "--ram", "64")

    assert code == 0
    assert "832x480, 81 frames (32760 tokens) on a GPU of 24 GB" in text
    assert "exchanged at the boundary" in text
    assert "The estimated peak is 18.0 GB of GPU memory" in text


def test_json_has_the_plan_and_the_estimate() -> None:
    code, text = run("--model", "wan2.2-ti2v-5b", "--gpu", "48", "--ram", "64", "--json")

    printed = json.loads(text)
    assert code == 0
    assert printed["plan"]["experts"] == "resident"
    assert printed["estimate"]["vram_bytes"] == max(printed["estimate"]["stages"].values())


def test_several_gpus_share_each_pass() -> None:
    code, text = run("--model", "wan2.2-t2v-a14b", "--gpu", "80", "--gpus", "8", "--ram", "1024")

    assert code == 0
    assert "on 8 GPUs of 80 GB" in text
    assert "8 of 8 GPUs share each pass" in text


def test_a_request_that_does_not_fit_is_rejected_with_one_that_fits() -> None:
    code, text = run("--model", "wan2.2-t2v-a14b", "--gpu", "8", "--ram", "32")

    assert code == 1
    assert "1280x720 with 81 frames does not fit" in text
    assert "with 81 frames fits." in text


def test_a_wrong_request_exits_with_status_2() -> None:
    assert run("--model", "nothing")[0] == 2
    assert run("--model", "tiny-t2v", "--size", "1x1")[0] == 2
    assert run("--model", "tiny-t2v", "--frames", "0")[0] == 2
    assert run("--model", "tiny-t2v", "--gpu", "0")[0] == 2
    assert run("--model", "tiny-t2v", "--gpu", "8", "--gpus", "0")[0] == 2
    assert run()[0] == 2
