"""Plots of a replay: the length of the queue, and the work of each GPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from deployments.simulation.traces import ModelTimes, Run, TraceJob
from wan22_bridge.files import atomic_path

_ROWS = 64
"""Largest number of GPUs in the plot: the first ones."""


def plot_replay(jobs: Sequence[TraceJob], runs: Sequence[Run], times: Mapping[str, ModelTimes], out: Path) -> None:
    """Draws a replay as a PNG.

    Args:
        jobs: the trace.
        runs: the runs of all jobs.
        times: the times of each model.
        out: path of the PNG.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: `out` can't be written.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(11, 7), sharex=True, height_ratios=(1, 2), layout="constrained"
    )
    kinds = sorted({times[job.model].type for job in jobs})
    colors = dict(zip(kinds, pyplot.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    for kind in kinds:
        of_kind = [run for run in runs if times[jobs[run.number].model].type == kind]
        arrivals = np.sort([jobs[run.number].at for run in of_kind])
        claims = np.sort([run.claimed_at for run in of_kind])
        moments = np.sort(np.concatenate([arrivals, claims]))
        waiting = np.searchsorted(arrivals, moments, "right") - np.searchsorted(claims, moments, "right")
        above.step(moments / 60, waiting, where="post", label=kind, color=colors[kind])
        shown = [run for run in of_kind if run.slot < _ROWS]
        slots = [run.slot for run in shown]
        for begin, end, color in (("claimed_at", "began_at", "lightgray"), ("began_at", "ended_at", colors[kind])):
            left = np.array([getattr(run, begin) for run in shown]) / 60
            width = np.array([getattr(run, end) for run in shown]) / 60 - left
            below.barh(slots, width, left=left, height=0.8, color=color)
    above.set_ylabel("pending jobs")
    below.set_ylabel("GPU")
    below.set_xlabel("minutes")
    below.invert_yaxis()
    patches = [Patch(color=colors[kind], label=kind) for kind in kinds] + [Patch(color="lightgray", label="loading")]
    figure.legend(handles=patches, loc="outside upper center", ncols=len(patches), frameon=False)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    pyplot.close(figure)
