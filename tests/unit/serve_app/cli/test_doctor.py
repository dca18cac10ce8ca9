"""`wan22 doctor`: every way to run a model, tried."""

import json
import math

from typer.testing import CliRunner

from serve_app.cli.main import app


def test_every_way_works_here_and_says_how_alike_it_is() -> None:
    result = CliRunner().invoke(app, ["doctor", "--size", "96x64", "--frames", "5", "--steps", "6", "--json"])

    assert result.exit_code == 0
    told = json.loads(result.stdout)
    likeness = {row["trial"]: row["latents_psnr_db"] for row in told["trials"]}
    assert len(likeness) == len(told["trials"]) >= 14
    assert not any(row["error"] for row in told["trials"])
    same = [name for name, value in likeness.items() if value == math.inf]
    assert {"plain", "one expert at a time", "blocks streamed", "one expert at a time, from disk"} <= set(same)
    # Weights that are read in place lie at other addresses, at which a CPU's kernels round otherwise.
    assert likeness["blocks streamed from disk"] > 110
    caches = {name for name in likeness if name.startswith("step cache")}
    assert all(value > (15 if name in caches else 30) for name, value in likeness.items())
    assert told["hardware"]["ram_total_bytes"] > 0


def test_bad_input_is_refused() -> None:
    for arguments in (["--model", "nothing"], ["--model", "wan2.2-t2v-a14b"], ["--size", "1x1"], ["--steps", "1"]):
        assert CliRunner().invoke(app, ["doctor", *arguments]).exit_code == 2
