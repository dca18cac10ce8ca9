"""The table and the JSON that every benchmark gives."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure."""

    measure: str
    value: float
    unit: str
    target: float | None = None
    """What it may be at the most; None where it is only told."""
    least: float | None = None
    """What it has to be at the least."""

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.least is not None:
            return self.value >= self.least
        return None if self.target is None else self.value <= self.target


def parse_arguments(description: str) -> argparse.Namespace:
    """`quick` and `json`, as every benchmark takes them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a smaller run: a first look, not a figure to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON too")
    return parser.parse_args()


def report(rows: list[Row], json_file: Path | None) -> None:
    """Prints the table, and writes the JSON where it was asked for."""
    table = Table("measure", "value", "unit", "target", "ok", box=None)
    for row in rows:
        target = "" if row.target is None else f"≤ {row.target:g}"
        target = target if row.least is None else f"≥ {row.least:g}"
        table.add_row(row.measure, f"{row.value:.4g}", row.unit, target, {True: "yes", False: "NO", None: ""}[row.ok])
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(row) | {"ok": row.ok} for row in rows], indent=2) + "\n")
