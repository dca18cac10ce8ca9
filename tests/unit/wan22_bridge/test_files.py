"""Atomic file writes."""

from pathlib import Path

import pytest

from wan22_bridge.files import atomic_path


def test_the_file_appears_only_after_the_block(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "deep" / "a.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert [path.read_text() for path in (tmp_path / "deep").iterdir()] == ["new"]


def test_an_error_keeps_the_old_file_and_removes_the_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.with_name("half").replace(temporary / "nowhere")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
