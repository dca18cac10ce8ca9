"""Plots of training logs."""

import json
from pathlib import Path

import pytest
from PIL import Image

from wan22_bridge.tiny_training.curves import _read_runs, plot_logs


def write_log(path: Path, measure: str, *runs: list[float]) -> Path:
    lines = [{"step": 50 * index, measure: value} for run in runs for index, value in enumerate(run, 1)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_each_run_of_each_log_is_plotted_as_a_curve(tmp_path: Path) -> None:
    flow = write_log(tmp_path / "flow.jsonl", "loss", [2.0, 0.4], [0.3, 0.2, 0.1])
    vae = write_log(tmp_path / "vae.jsonl", "psnr_db", [20.0, 30.0])

    plot_logs({"t2v": flow, "vae": vae}, tmp_path / "curves.png")

    assert [[record["loss"] for record in run] for run in _read_runs(flow)] == [[2.0, 0.4], [0.3, 0.2, 0.1]]
    with Image.open(tmp_path / "curves.png") as both:
        assert both.width > 1.5 * both.height
        assert len(both.convert("RGB").getcolors(2**24) or []) > 10


@pytest.mark.parametrize("content", ["", "no log", "{}\n", "[1]\n"])
def test_a_file_that_is_not_a_log_is_rejected(content: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(content)

    with pytest.raises(ValueError, match=r"log\.jsonl is"):
        plot_logs({"t2v": tmp_path / "log.jsonl"}, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
