"""Measures the real Wan2.2 architectures on a GPU, with random weights: `python benchmarks/gpu.py --json gpu.json`."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.gpu_part import PARTS
from benchmarks.support.reporting import Row, describe, report, write_json

_PART = Path(__file__).parent / "support" / "gpu_part.py"
_LEAST_SECONDS = 10
"""Time below which a part is not begun."""
_POLL_SECONDS = 0.5
_SLOWER_CPU = 4
"""Factor on the limits of the parts on a CPU, which other programs may use too."""


def main() -> None:
    """Runs the parts one after the other, and reports each row as soon as it is measured."""
    arguments = _parse_arguments()
    device = "cpu" if arguments.tiny else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print("No CUDA GPU was found: nothing is measured. With --tiny every part runs on the CPU.")
        return
    rows = [Row(fact, 1, "") for fact in _describe_machine(device)]
    for row in rows:
        print(row.measure, flush=True)
    ends = time.monotonic() + 60 * arguments.minutes
    for name in arguments.parts or PARTS:
        left = min(PARTS[name][0] * (_SLOWER_CPU if arguments.tiny else 1), ends - time.monotonic())
        if left < _LEAST_SECONDS:
            rows.append(Row(f"{name}: not run, because {arguments.minutes:g} minutes were over", 1, "", 0))
            continue
        with tempfile.TemporaryDirectory(prefix="wan22-bench-") as folder:
            setting = {"device": device, "tiny": arguments.tiny, "layers": arguments.layers, "folder": folder}
            rows += _run(name, setting, left)
        if arguments.json is not None:
            write_json(rows, arguments.json)
    report(rows, arguments.json)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the real Wan2.2 architectures with random weights on a GPU.")
    parser.add_argument("--minutes", type=float, default=12, help="time limit of the whole run (default: 12)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON, after each part")
    parser.add_argument("--layers", type=int, help="blocks of each expert, for a quick look (default: all)")
    parser.add_argument("--tiny", action="store_true", help="run each part with tiny models on the CPU, as a test")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), help="run these parts only")
    return parser.parse_args()


def _describe_machine(device: str) -> list[str]:
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
    if device == "cpu":
        return [f"CPU, {versions}"]
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        cards = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    except (OSError, subprocess.CalledProcessError):
        cards = [torch.cuda.get_device_name()]
    return [*(f"card: {card}" for card in cards), versions]


def _run(name: str, setting: dict[str, object], limit_seconds: float) -> list[Row]:
    """Runs a part in a process of its own, which can fail or be stopped without an effect on the next part."""
    found: list[Row] = []
    began = time.monotonic()
    # Outside of the part's folder, whose files the part chooses.
    with tempfile.NamedTemporaryFile(prefix="wan22-rows-", suffix=".jsonl") as rows, tempfile.TemporaryFile() as log:
        command = [sys.executable, str(_PART), name, json.dumps(setting | {"rows": rows.name})]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        status: int | None = None
        try:
            while status is None and time.monotonic() - began < limit_seconds:
                try:
                    status = process.wait(_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    _print_new(Path(rows.name), found)
        finally:
            if status is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        _print_new(Path(rows.name), found)
        seconds = time.monotonic() - began
        if status is None:
            found.append(Row(f"{name}: stopped after its limit", seconds, "s", 0))
        elif status != 0:
            log.seek(0)
            text = log.read().decode(errors="replace").strip()
            print(text[-3000:], file=sys.stderr, flush=True)
            found.append(Row(f"{name}: failed, {text.splitlines()[-1][:160] if text else status}", 1, "", 0))
        else:
            found.append(Row(f"{name}: the whole part", seconds, "s"))
        print(describe(found[-1]), flush=True)
    return found


def _print_new(file: Path, found: list[Row]) -> None:
    """Reads the rows that the part has added since the last call, and prints them."""
    complete = file.read_text().rpartition("\n")[0].splitlines()
    for line in complete[len(found) :]:
        found.append(Row(**json.loads(line)))
        print(describe(found[-1]), flush=True)


if __name__ == "__main__":
    main()
