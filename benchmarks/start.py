"""Compares the start of the service with the start of a bare Ray Serve application, alternately in one run."""

import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.reporting import Row, parse_arguments, report
from benchmarks.support.running import RunningService, running_bare_application, running_service
from wan22_bridge.builtin import FAMILY, ensure_tiny_model

SIDES: dict[str, Callable[[Path], AbstractContextManager[RunningService]]] = {
    "wan22 serve": running_service,
    "bare serve run": running_bare_application,
}


def main() -> None:
    """Measures both sides, and reports the rows."""
    arguments = parse_arguments("Compare the start of the service with that of a bare Ray Serve application.")
    rounds = 2 if arguments.quick else 5
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(prefix="wan22-bench-") as name:
        folder = Path(name)
        for member in FAMILY:
            ensure_tiny_model(folder / "data" / "models", member)
        for index in range(rounds + 1):
            for side in SIDES if index % 2 else reversed(SIDES):
                with SIDES[side](folder) as service:
                    if index:  # the first round fills the page cache and creates the database
                        seconds[side].append(service.start_seconds)
    report(_compare(seconds["wan22 serve"], seconds["bare serve run"]), arguments.json)


def _compare(served: list[float], bare: list[float]) -> list[Row]:
    ratio = statistics.median(ours / theirs for ours, theirs in zip(served, bare, strict=True))
    return [
        Row("wan22 serve: start to ready, median", statistics.median(served), "s", 20.0),
        Row("wan22 serve: start to ready, slowest", max(served), "s"),
        Row("bare serve run: start to first answer, median", statistics.median(bare), "s"),
        Row("bare serve run: start to first answer, slowest", max(bare), "s"),
        Row("wan22 serve / bare serve run, median of the rounds", ratio, "×", 1.6),
    ]


if __name__ == "__main__":
    main()
