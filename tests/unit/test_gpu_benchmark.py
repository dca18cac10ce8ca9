"""The GPU benchmark runs without a GPU: each part with tiny models, so that a GPU machine's time is not lost."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support.gpu_part import PARTS
from tests.service import ROOT


def run(tmp_path: Path, *options: str) -> tuple[str, list[dict[str, Any]]]:
    file = tmp_path / "rows.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--tiny", "--json", str(file), *options]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return printed, json.loads(file.read_text())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_runs_on_the_cpu(tmp_path: Path) -> None:
    printed, rows = run(tmp_path)

    measures = {row["measure"] for row in rows}
    assert {f"{name}: the whole part" for name in PARTS} <= measures, printed
    assert [row["measure"] for row in rows if row["ok"] is False] == []


def test_parts_beyond_the_time_limit_are_reported_as_not_run(tmp_path: Path) -> None:
    printed, rows = run(tmp_path, "--minutes", "0.1")

    assert "torch" in printed
    missing = [row["measure"] for row in rows if row["ok"] is False]
    assert missing == [f"{name}: not run, because 0.1 minutes were over" for name in PARTS]
