"""`wan22 doctor` tries every way to run a model."""

import json
import math

import pytest
from typer.testing import CliRunner

from serve_app.cli.main import app

pytestmark = pytest.mark.slow


def test_every_trial_works_on_a_cpu_and_reports_its_likeness() -> None:
    result = CliRunner().invoke(app, ["doctor", "--size", "96x64", "--frames", "5", "--steps", "6", "--json"])

    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    likeness = {row["trial"]: row["latents_psnr_db"] for row in printed["trials"]}
    assert len(likeness) == len(printed["trials"]) >= 14
    assert not any(row["error"] for row in printed["trials"])
    same = [name for name, value in likeness.items() if value == math.inf]
    assert {"plain", "one expert at a time", "blocks streamed", "one expert at a time, from disk"} <= set(same)
    # Weights read in place from disk have other addresses, at which a CPU's kernels round differently.
    assert likeness["blocks streamed from disk"] > 110
    caches = {name for name in likeness if name.startswith("step cache")}
    assert all(value > (15 if name in caches else 30) for name, value in likeness.items())
    assert printed["hardware"]["ram_total_bytes"] > 0


def test_a_wrong_request_exits_with_status_2() -> None:
    for arguments in (["--model", "nothing"], ["--model", "wan2.2-t2v-a14b"], ["--size", "1x1"], ["--steps", "1"]):
        assert CliRunner().invoke(app, ["doctor", *arguments]).exit_code == 2
