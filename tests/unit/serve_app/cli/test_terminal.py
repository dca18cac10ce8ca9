"""Text from other people reaches the terminal without control characters, and tables have one line a row."""

import pytest
import typer
from rich.cells import cell_len

from serve_app.cli import terminal
from serve_app.cli.connection import ClientError
from serve_app.cli.terminal import fail, print_rows, printable, reporting_errors, say
from wan22_bridge.errors import ConfigurationError, DownloadFailed, InvalidRequest


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a cat", "a cat"),
        ("Grüße „x“ 日本語 🎈 [bold] \\ :cat:", "Grüße „x“ 日本語 🎈 [bold] \\ :cat:"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("back\x08\x7f\x00", "back\\x08\\x7f\\x00"),
        ("one\ntwo\r\nthree\tfour\u2028five\x85six", "one two  three four five six"),
        ("\u202egpj.exe\u2066\u200f", "\\u202egpj.exe\\u2066\\u200f"),
        ("\ufeff\U000e0041\udc80", "\\ufeff\\U000e0041\\udc80"),
    ],
)
def test_control_and_bidirectional_characters_are_printed_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_markup_and_emoji_codes_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    say("[red]:cat:[/red] 42")
    assert capsys.readouterr().out == "[red]:cat:[/red] 42\n"


def test_later_lines_of_an_error_are_indented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        fail("one\nSaved a.mp4\x1b[A", suggestions=["do\nthis"], code=2)
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == "Error: one\n  Saved a.mp4\\x1b[A\n  do this\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("wrong", suggestions=["do this"]), 2),
        (ConfigurationError("wrong", suggestions=["do this"]), 2),
        (DownloadFailed("wrong", suggestions=["do this"]), 1),
        (ClientError("wrong", suggestions=["do this"]), 1),
        (ClientError("wrong", suggestions=["do this"], invalid=True), 2),
    ],
)
def test_an_error_ends_the_command_with_its_message(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, reporting_errors():
        raise error
    assert caught.value.exit_code == code
    assert capsys.readouterr().err == "Error: wrong\n  do this\n"


ROWS = [("video_1", "a red circle " * 20), ("video_12", "日本語" * 40), ("video_\x1b[2J", "short")]


def test_pipes_get_whole_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("job", "prompt"), ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "job           prompt",
        f"video_1       {('a red circle ' * 20).rstrip()}",
        f"video_12      {'日本語' * 40}",
        "video_\\x1b[2J short",
    ]


@pytest.mark.parametrize("width", [80, 40, 10])
def test_terminals_get_rows_cut_to_their_width(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal.output, "_force_terminal", True)
    monkeypatch.setattr(terminal.output, "_width", width)
    print_rows(("job", "prompt"), ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ROWS) + 1
    assert all(cell_len(line) <= width for line in lines)
    assert all(line.endswith("…") for line in lines[1:3])
