"""Whether a video can be saved is known before a job is submitted, and a failed download leaves no file."""

import os
import resource
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.cli.output_file import UnusableOutput, check_folder, check_output, open_output


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["a.mp4", "x" * 250 + ".mp4", "sub/../a.mp4", "日本.mp4", "-"])
def test_a_usable_name_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert check_output(name) == Path(name)
    assert os.listdir(tmp_path) == ["sub"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 256, "File name too long"),
        ("x/" * 2100 + "a.mp4", "File name too long"),
        ("a\0b.mp4", "null"),
        ("clip/", "got a folder"),
        ("sub", "got a folder"),
        ("sub/", "got a folder"),
        ("", "got a folder"),
        (".", "got a folder"),
        ("clip/..", "got a folder"),
        ("missing/a.mp4", "No such file or directory"),
        ("file/a.mp4", "Not a directory"),
        ("loop", "loop"),
        ("/proc/a.mp4", "/proc/a.mp4"),
        ("socket", "got a socket"),
    ],
)
def test_an_unusable_name_is_rejected(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(UnusableOutput, match=reason) as caught:
            check_output(name)
    assert repr(name) in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_folder_that_takes_no_files_is_rejected() -> None:
    with pytest.raises(UnusableOutput, match="'/proc'"):
        check_folder(Path("/proc"))
    with pytest.raises(UnusableOutput, match="'/proc/self/status'"):
        check_output("/proc/self/status")


def test_the_check_keeps_an_existing_file_and_opens_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("old")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    os.mkfifo(tmp_path / "pipe")
    for name in ("a.mp4", "link.mp4", "pipe", "/dev/null"):
        assert check_output(name) == Path(name)
    assert (tmp_path / "a.mp4").read_text() == "old"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("old")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    with open_output(Path("link.mp4")) as file:
        file.write(b"new")
        assert (tmp_path / "a.mp4").read_text() == "old"
    assert (tmp_path / "a.mp4").read_text() == "new"
    assert (tmp_path / "link.mp4").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "link.mp4"]


@pytest.fixture
def _full_disk() -> Iterator[None]:
    """A limit on the size of files, which a write meets like a full disk: as an OSError."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("_full_disk")
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("old")
    with pytest.raises(OSError, match="File too large"), open_output(Path("a.mp4")) as file:
        file.write(b"x" * 100_000)
    assert (tmp_path / "a.mp4").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.mp4"]
