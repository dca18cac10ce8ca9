"""The use of GPUs, read from the driver's tool. A script with the tool's name and output takes its place."""

from pathlib import Path

import pytest

from deployments.generation.gpus import read_gpus

ROWS = """\
GPU-11111111-2222-3333-4444-555555555555, NVIDIA H200, 570.86.15, 37, 1024, 143771
GPU-66666666-2222-3333-4444-555555555555, NVIDIA H200, 570.86.15, [N/A], 0, 143771
GPU-99999999-2222-3333-4444-555555555555, NVIDIA GB10, 570.86.15, 1, [N/A], [N/A]
"""


def _install(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_the_use_of_the_process_s_own_gpus_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, monkeypatch, f"cat <<'END'\n{ROWS}END")
    uuids = [f"{first * 8}-2222-3333-4444-555555555555" for first in ("6", "1")]
    second, first = read_gpus(uuids)
    assert (first.name, first.driver_version, first.gpu_percent) == ("NVIDIA H200", "570.86.15", 37.0)
    assert first.vram_used_mb == pytest.approx(1073.741824)
    assert first.vram_total_mb == pytest.approx(150754.8, rel=1e-4)
    assert (second.gpu_percent, second.vram_used_mb) == (None, 0.0)


def test_a_gpu_without_a_memory_of_its_own_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, monkeypatch, f"cat <<'END'\n{ROWS}END")
    assert read_gpus(["99999999-2222-3333-4444-555555555555", "unknown"]) == []


@pytest.mark.parametrize("script", ["echo broken; exit 9", "echo nonsense"])
def test_a_tool_that_fails_gives_no_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    _install(tmp_path, monkeypatch, script)
    assert read_gpus(["x"]) == []


def test_a_missing_tool_gives_no_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_gpus(["x"]) == []


def test_a_tool_that_keeps_failing_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _install(tmp_path, monkeypatch, "exit 77")
    for _ in range(3):
        assert read_gpus(["x"]) == []
    assert [getattr(record, "action", "") for record in caplog.records] == ["gpus_not_read"]
