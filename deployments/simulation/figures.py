"""The figures of a replay: waiting times, swaps, GPU utilization, and the shares of owners."""

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployments.simulation.traces import ModelTimes, Run, TraceJob, lower_bound

SWAP_DISTANCE = 2
"""Least `Need.distance` that counts as a swap: another model counts, other LoRAs do not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The figures of one replay. Times are in seconds. The field names are keys of `wan22 simulate --json`."""

    makespan: float
    bound: float
    """Lower bound of the makespan over all schedules."""
    swaps: int
    """Number of times that a GPU loaded another model."""
    utilisation: float
    """Share of the GPUs' time, until the makespan, in which they ran jobs."""
    wait_median: float
    wait_p95: float
    """95th percentile of the time from submission to the begin of the run."""
    wait_p95_by_owner: Mapping[str, float]


def measure(jobs: Sequence[TraceJob], gpus: int, runs: Sequence[Run]) -> Figures:
    """Computes the figures of a replay.

    Args:
        jobs: the trace.
        gpus: number of GPUs.
        runs: the runs of all jobs.
    """
    waits = defaultdict[str, list[float]](list)
    for run in runs:
        waits[jobs[run.number].owner].append(run.began_at - jobs[run.number].at)
    every = sorted(wait for of in waits.values() for wait in of)
    makespan = max(run.ended_at for run in runs)
    return Figures(
        makespan=makespan,
        bound=lower_bound(jobs, gpus),
        swaps=sum(run.distance >= SWAP_DISTANCE for run in runs),
        utilisation=sum(run.ended_at - run.began_at for run in runs) / (makespan * gpus),
        wait_median=statistics.median(every),
        wait_p95=_percentile(every, 0.95),
        wait_p95_by_owner={owner: _percentile(sorted(of), 0.95) for owner, of in sorted(waits.items())},
    )


def fair_waits(jobs: Sequence[TraceJob], gpus: int, times: Mapping[str, ModelTimes]) -> dict[str, float]:
    """Computes each owner's 95th percentile of waiting under ideally fair sharing.

    Each owner has a virtual machine that runs the owner's jobs in order. At any moment the machines of the owners who
    have jobs share all GPUs equally. Each wait is raised by the remaining run of another job and by one load, because
    on real GPUs a job must end before the next one begins.

    Args:
        jobs: the trace.
        gpus: number of GPUs.
        times: the times of each model.

    Returns:
        The seconds for each owner.
    """
    owners = sorted({job.owner for job in jobs})
    granularity = max(job.run_seconds for job in jobs) / gpus + max(times[job.model].load_seconds for job in jobs)
    ends = _share(jobs, owners, float(gpus))
    waits = defaultdict[str, list[float]](list)
    for job, end in zip(jobs, ends, strict=True):
        waits[job.owner].append(max(0.0, end - job.at - job.run_seconds) + granularity)
    return {owner: _percentile(sorted(of), 0.95) for owner, of in waits.items()}


def _share(jobs: Sequence[TraceJob], owners: Sequence[str], gpus: float) -> list[float]:
    """Returns the end of each job if all owners with jobs are served at equal rates."""
    ends = [0.0] * len(jobs)
    queues: dict[str, deque[list[float]]] = {owner: deque() for owner in owners}
    now, coming = 0.0, 0
    while coming < len(jobs) or any(queues.values()):
        active = [owner for owner in owners if queues[owner]]
        # A job uses at most one GPU.
        rates = {owner: min(gpus / len(active), float(len(queues[owner]))) for owner in active}
        finish = min((now + queues[owner][0][1] / rates[owner] for owner in active), default=float("inf"))
        arrival = jobs[coming].at if coming < len(jobs) else float("inf")
        until = min(finish, arrival)
        for owner in active:
            queues[owner][0][1] -= rates[owner] * (until - now)
            while queues[owner] and queues[owner][0][1] <= 1e-6:
                number, _ = queues[owner].popleft()
                ends[int(number)] = until
        now = until
        if arrival <= finish and coming < len(jobs):
            queues[jobs[coming].owner].append([coming, jobs[coming].run_seconds])
            coming += 1
    return ends


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[math.ceil(share * len(ordered)) - 1]
