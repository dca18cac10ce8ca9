"""`wan22 simulate`: what a number of GPUs would make of a stream of jobs, in virtual time."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deployments.scheduling.policy import Ledger, Policy
from deployments.scheduling.queue import Queue
from deployments.simulation.baselines import FirstComeFirstServed, replay_uncoordinated
from deployments.simulation.figures import Figures, fair_waits, measure
from deployments.simulation.history import read_store
from deployments.simulation.plots import plot_replay
from deployments.simulation.replay import replay
from deployments.simulation.traces import STANDARD, ModelTimes, Run, TraceJob, load_times, make_trace, read_trace
from wan22_bridge.errors import Wan22Error

output = Console()


class PolicyName(StrEnum):
    """What decides which job goes next."""

    SCHEDULER = "scheduler"
    """This service's own."""
    FCFS = "fcfs"
    """First come, first served."""
    SERVE = "serve"
    """Ray Serve's default scaling of a deployment for each model type."""


def simulate(
    trace: Annotated[
        str, typer.Option(help=f"{', '.join(STANDARD)}, a file of JSON lines, or the URL of a service's database.")
    ] = STANDARD[0],
    gpus: Annotated[int, typer.Option(min=1, help="How many.")] = 8,
    policy: Annotated[list[PolicyName] | None, typer.Option(help="What decides; once or more, by default all.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="How many, of a trace that is made.")] = None,
    seed: Annotated[int, typer.Option(help="Of a trace that is made.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the first policy's replay as a PNG; needs matplotlib.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Replay a stream of jobs on a number of GPUs: waiting, swaps, utilisation and shares, beside two baselines."""
    times = load_times()
    try:
        stream = _read(trace, gpus, times, jobs, seed)
        replays = {name: run_policy(name, stream, gpus, times) for name in policy or list(PolicyName)}
        if plot is not None:
            plot_replay(stream, next(iter(replays.values())), times, plot)
    except Wan22Error as exc:
        Console(stderr=True).print(f"[red]Error:[/red] {exc.message}", *exc.suggestions, sep="\n  ", highlight=False)
        raise typer.Exit(2) from None
    except (OSError, ImportError) as exc:
        Console(stderr=True).print(f"[red]Error:[/red] {exc}", highlight=False)
        raise typer.Exit(1) from None
    figures = {name: measure(stream, gpus, runs) for name, runs in replays.items()}
    if as_json:
        json.dump({name: asdict(found) for name, found in figures.items()}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        _show(figures, fair_waits(stream, gpus, times))


def run_policy(name: PolicyName, jobs: list[TraceJob], gpus: int, times: dict[str, ModelTimes]) -> list[Run]:
    """Replays a trace by one policy."""
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
            f"{trace!r} is neither {', '.join(STANDARD)} nor a file, nor a database's URL such as "
            "sqlite:////path/to/data/jobs.db.",
            param_hint="--trace",
        )
    return read_trace(path, times)


def _show(figures: dict[PolicyName, Figures], fair: dict[str, float]) -> None:
    table = Table("", *figures, box=None)
    rows: dict[str, Callable[[Figures], str]] = {
        "makespan": lambda found: f"{found.makespan:.0f} s",
        "… / lower bound": lambda found: f"{found.makespan / found.bound:.3f}",
        "swaps": lambda found: str(found.swaps),
        "utilisation": lambda found: f"{100 * found.utilisation:.0f} %",
        "wait, median": lambda found: f"{found.wait_median:.0f} s",
        "wait, 95th percentile": lambda found: f"{found.wait_p95:.0f} s",
    }
    for title, describe in rows.items():
        table.add_row(title, *(describe(found) for found in figures.values()))
    for owner, share in fair.items():
        if len(fair) > 1:
            waits = (f"{found.wait_p95_by_owner[owner] / share:.2f} x" for found in figures.values())
            table.add_row(f"{owner}: 95th percentile / fair share's", *waits)
    output.print(table)
