"""The table and the JSON file of a benchmark."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value."""

    measure: str
    value: float
    unit: str
    target: float | None = None
    """Upper limit; None reports the value only."""
    least: float | None = None
    """Lower limit."""

    @property
    def ok(self) -> bool | None:
        """Whether the value meets its limit; None without a limit."""
        if self.least is not None:
            return self.value >= self.least
        return None if self.target is None else self.value <= self.target


def parse_arguments(description: str) -> argparse.Namespace:
    """Parses `--quick` and `--json`, which every benchmark takes."""
    return make_parser(description).parse_args()


def make_parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser of these options, for a benchmark that takes others, too."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a smaller run for a first look; do not quote its values")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    return parser


def report(rows: list[Row], json_file: Path | None) -> None:
    """Prints the table, and writes the JSON file if there is one."""
    table = Table("measure", "value", "unit", "target", "ok", box=None)
    for row in rows:
        table.add_row(*_cells(row))
    Console().print(table)
    if json_file is not None:
        write_json(rows, json_file)


def write_json(rows: list[Row], file: Path) -> None:
    """Writes the rows to a JSON file."""
    file.write_text(json.dumps([asdict(row) | {"ok": row.ok} for row in rows], indent=2) + "\n")


def describe(row: Row) -> str:
    """Returns a row as a line of text, for a benchmark that prints its rows as they are measured."""
    return "  ".join(filter(None, _cells(row)))


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    target = "" if row.target is None else f"≤ {row.target:g}"
    target = target if row.least is None else f"≥ {row.least:g}"
    return row.measure, f"{row.value:.4g}", row.unit, target, {True: "yes", False: "NO", None: ""}[row.ok]
