"""Printing to the terminal: every command prints through this module."""

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from serve_app.cli.connection import ClientError
from wan22_bridge.errors import Wan22Error

output = Console(markup=False, emoji=False, highlight=False)
"""Standard output. Rich's markup is off because brackets in a prompt are text."""
errors = Console(markup=False, emoji=False, highlight=False, stderr=True)
"""Standard error: errors and progress."""

_ESCAPED_CATEGORIES = {"Cc", "Cf", "Cs"}
"""Unicode's control characters, format characters and lone surrogates. Bidirectional overrides are among the format
characters."""
_LINE_BREAKS = {"\t", "\n", "\v", "\f", "\r", "\x85", "\u2028", "\u2029"}
_JOINERS = {"\u200c", "\u200d"}
"""Format characters that emoji and several scripts need. They cannot change what stands around them."""


def printable(text: object) -> str:
    """Returns text as one line that is safe to print to a terminal.

    Prompts, names and messages come from other people, and a terminal executes the escape sequences in them. Line
    breaks and tabs become spaces, and other control and format characters become backslash escapes such as `\\x1b`.
    """
    return "".join(map(_escape, str(text)))


def _escape(character: str) -> str:
    if character in _LINE_BREAKS:
        return " "
    if unicodedata.category(character) in _ESCAPED_CATEGORIES and character not in _JOINERS:
        return character.encode("ascii", "backslashreplace").decode() if ord(character) > 127 else repr(character)[1:-1]
    return character


def say(text: object) -> None:
    """Prints one line to standard output, however long."""
    output.print(printable(text), soft_wrap=True)


def warn(text: object) -> None:
    """Prints one line to standard error, however long."""
    errors.print(printable(text), soft_wrap=True)


def show_error(message: str, *, suggestions: Iterable[object] = ()) -> None:
    """Prints an error and what to do about it to standard error. Later lines of the message are indented."""
    first, *others = message.split("\n")
    errors.print(Text.assemble(("Error:", "red"), " ", printable(first)), soft_wrap=True)
    for line in (*others, *suggestions):
        warn(f"  {line}")


def fail(message: str, *, suggestions: Iterable[object] = (), code: int = 1) -> NoReturn:
    """Prints an error and ends the command.

    Args:
        message: what failed, with the value.
        suggestions: what to do instead, a sentence each.
        code: the exit status: 1 for a failure, 2 for a wrong request.
    """
    show_error(message, suggestions=suggestions)
    raise typer.Exit(code)


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Ends the command with the message of an error that is raised inside the context."""
    try:
        yield
    except ClientError as exc:
        fail(str(exc), suggestions=exc.suggestions, code=2 if exc.invalid else 1)
    except Wan22Error as exc:
        fail(exc.message, suggestions=exc.suggestions, code=2 if exc.category == "invalid_request" else 1)


def print_json(value: Any) -> None:
    """Prints a value as JSON, for programs. Nothing is shortened or replaced."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table with one line a row.

    In a terminal a line that is too long is cut with an ellipsis, so the longest column belongs at the end. Pipes and
    files get whole lines.
    """
    cells = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [set_cell_size(cell, width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        line = Text(" ".join([*padded, row[-1]]).rstrip())
        if output.is_terminal:
            line.truncate(output.width, overflow="ellipsis")
        output.print(line, soft_wrap=True)
