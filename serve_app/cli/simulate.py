"""`wan22 simulate`: replays a stream of jobs on a number of GPUs, in virtual time."""

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from deployments.scheduling.policy import Ledger, Policy
from deployments.scheduling.queue import Queue
from deployments.simulation.baselines import FirstComeFirstServed, replay_uncoordinated
from deployments.simulation.figures import Figures, fair_waits, measure
from deployments.simulation.history import read_store
from deployments.simulation.plots import plot_replay
from deployments.simulation.replay import replay
from deployments.simulation.traces import STANDARD, ModelTimes, Run, TraceJob, load_times, make_trace, read_trace
from serve_app.cli.options import AsJson
from serve_app.cli.terminal import fail, output, print_json, reporting_errors


class PolicyName(StrEnum):
    """The policy that chooses the next job."""

    SCHEDULER = "scheduler"
    """This service's scheduler."""
    FCFS = "fcfs"
    """First come, first served."""
    SERVE = "serve"
    """Ray Serve's default autoscaling, with one deployment per model type."""


def simulate(
    trace: Annotated[
        str,
        typer.Option(help=f"{', '.join(STANDARD)}; or a file of JSON lines; or the URL of a service's database."),
    ] = STANDARD[0],
    gpus: Annotated[int, typer.Option(min=1, help="Number of GPUs.")] = 8,
    policy: Annotated[
        list[PolicyName] | None, typer.Option(help="A policy to replay; repeatable. Default: all policies.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of jobs in a generated trace. Default: the trace's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of a generated trace.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="PNG file for a plot of the first policy's replay. Needs matplotlib.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay a stream of jobs on a number of GPUs, and compare waiting, swaps and utilization across policies."""
    times = load_times()
    try:
        with reporting_errors():
            stream = _read(trace, gpus, times, jobs, seed)
            replays = {name: run_policy(name, stream, gpus, times) for name in policy or list(PolicyName)}
            if plot is not None:
                plot_replay(stream, next(iter(replays.values())), times, plot)
    except (OSError, ImportError) as exc:
        fail(str(exc))
    figures = {name: measure(stream, gpus, runs) for name, runs in replays.items()}
    if as_json:
        print_json({name: asdict(found) for name, found in figures.items()})
    else:
        _show(figures, fair_waits(stream, gpus, times))


def run_policy(name: PolicyName, jobs: list[TraceJob], gpus: int, times: dict[str, ModelTimes]) -> list[Run]:
    """Replays a trace with one policy."""
    if name is PolicyName.SERVE:
        return replay_uncoordinated(jobs, gpus, times)
    chooser = FirstComeFirstServed() if name is PolicyName.FCFS else Queue(Policy(), Ledger())
    return replay(jobs, gpus, times, chooser)


def _read(trace: str, gpus: int, times: dict[str, ModelTimes], jobs: int | None, seed: int) -> list[TraceJob]:
    if trace in STANDARD:
        return make_trace(trace, gpus, times, jobs=jobs, seed=seed)
    if "://" in trace:
        return read_store(trace, times)
    path = Path(trace)
    if not path.is_file():
        raise typer.BadParameter(
            f"{trace!r} is not a trace; expected {', '.join(STANDARD)}, a file, or a database's URL such as "
            "sqlite:////path/to/data/jobs.db.",
            param_hint="--trace",
        )
    return read_trace(path, times)


def _show(figures: dict[PolicyName, Figures], fair: dict[str, float]) -> None:
    table = Table("figure", *figures, box=None)
    rows: dict[str, Callable[[Figures], str]] = {
        "makespan": lambda found: f"{found.makespan:.0f} s",
        "makespan / lower bound": lambda found: f"{found.makespan / found.bound:.3f}",
        "swaps": lambda found: str(found.swaps),
        "utilization": lambda found: f"{100 * found.utilisation:.0f} %",
        "wait, median": lambda found: f"{found.wait_median:.0f} s",
        "wait, 95th percentile": lambda found: f"{found.wait_p95:.0f} s",
    }
    for title, describe in rows.items():
        table.add_row(title, *(describe(found) for found in figures.values()))
    for owner, share in fair.items():
        if len(fair) > 1:
            waits = (f"{found.wait_p95_by_owner[owner] / share:.2f} x" for found in figures.values())
            table.add_row(f"{owner}: 95th percentile of waits / fair share's", *waits)
    output.print(table)
