"""Plots of training logs. Needs matplotlib."""

import json
from pathlib import Path

from wan22_bridge.files import atomic_path

_MEASURES = {"loss": "loss: squared error of the velocity", "psnr_db": "PSNR of the reconstruction, dB"}


def plot_logs(logs: dict[str, Path], out: Path) -> None:
    """Plots the measures of each log over the steps.

    Args:
        logs: Paths of `log.jsonl` files, by the name of the curve. A log of several runs gives several curves.
        out: PNG to write.

    Raises:
        ImportError: Matplotlib is not installed.
        OSError: A log can't be read, or `out` can't be written.
        ValueError: A file is empty or not a training log.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    runs = [(name, run) for name, path in logs.items() for run in _read_runs(path)]
    measures = [measure for measure in _MEASURES if any(measure in run[0] for _, run in runs)]
    figure, axes = pyplot.subplots(1, len(measures), figsize=(6 * len(measures), 4), squeeze=False)
    for measure, axis in zip(measures, axes[0], strict=True):
        for name, run in runs:
            if measure in run[0]:
                axis.plot([record["step"] for record in run], [record[measure] for record in run], label=name)
        axis.set_xlabel("step")
        axis.set_ylabel(_MEASURES[measure])
        if measure == "loss":
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


def _read_runs(path: Path) -> list[list[dict[str, float]]]:
    """Returns the records of each run in a log. A new run starts where the step number decreases."""
    runs: list[list[dict[str, float]]] = []
    try:
        for line in path.read_text("utf-8").splitlines():
            record = json.loads(line)
            step = record["step"]
            if not runs or step <= runs[-1][-1]["step"]:
                runs.append([])
            runs[-1].append(record)
    except (ValueError, KeyError, TypeError) as exc:
        raise ValueError(f"{path} is not a training log.") from exc
    if not runs:
        raise ValueError(f"{path} is empty.")
    return runs
