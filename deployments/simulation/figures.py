"""What a replay is judged by: waiting, swaps, how busy the GPUs were, and whether owners had their shares."""

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployments.simulation.traces import ModelTimes, Run, TraceJob, lower_bound

SWAP_DISTANCE = 2
"""Loading another model is a swap, other LoRAs are none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Of one replay. Times are in seconds."""

    makespan: float
    bound: float
    """No schedule ends before that."""
    swaps: int
    utilisation: float
    """The share of the GPUs' time, to the end, in which videos were made."""
    wait_median: float
    wait_p95: float
    """From the submission to the first step."""
    wait_p95_by_owner: Mapping[str, float]


def measure(jobs: Sequence[TraceJob], gpus: int, runs: Sequence[Run]) -> Figures:
    """Sums up a replay of a trace on so many GPUs."""
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
    """Each owner's 95th percentile of waiting, were the GPUs' time dealt out in equal shares to those who wait.

    The share is a machine of its own that works off the owner's jobs in order, at the rate that all owners who have
    any would leave it: what is left of a job that runs, and one load, come to that, for a job ends before the next
    begins.
    """
    owners = sorted({job.owner for job in jobs})
    granularity = max(job.run_seconds for job in jobs) / gpus + max(times[job.model].load_seconds for job in jobs)
    ends = _share(jobs, owners, float(gpus))
    waits = defaultdict[str, list[float]](list)
    for job, end in zip(jobs, ends, strict=True):
        waits[job.owner].append(max(0.0, end - job.at - job.run_seconds) + granularity)
    return {owner: _percentile(sorted(of), 0.95) for owner, of in waits.items()}


def _share(jobs: Sequence[TraceJob], owners: Sequence[str], gpus: float) -> list[float]:
    """When each job would end, the work flowing at equal rates to the owners who have any."""
    ends = [0.0] * len(jobs)
    queues: dict[str, deque[list[float]]] = {owner: deque() for owner in owners}
    now, coming = 0.0, 0
    while coming < len(jobs) or any(queues.values()):
        active = [owner for owner in owners if queues[owner]]
        # Nobody's jobs run faster than one GPU each.
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
