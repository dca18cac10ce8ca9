"""Compares the scheduler with first come, first served and with Serve's default scaling, in virtual time."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.reporting import Row, parse_arguments, report
from deployments.simulation.figures import fair_waits, measure
from deployments.simulation.traces import STANDARD, ModelTimes, load_times, make_trace
from serve_app.cli.simulate import PolicyName, run_policy

GPUS = (1, 8, 64)
THOUSAND, MILLION = 1000, 1_000_000


def main() -> None:
    """Replays the standard traces, and reports the rows."""
    arguments = parse_arguments("Compare the scheduler with a lower bound and two baselines, on the standard traces.")
    times = load_times()
    rows = [row for gpus in GPUS for name in STANDARD for row in _measure(name, gpus, times)]
    rows += _time(MILLION // 20 if arguments.quick else MILLION, times)
    report(rows, arguments.json)


def _measure(name: str, gpus: int, times: dict[str, ModelTimes]) -> list[Row]:
    jobs = make_trace(name, gpus, times)
    found = {policy: measure(jobs, gpus, run_policy(policy, jobs, gpus, times)) for policy in PolicyName}
    own, served, uncoordinated = (found[policy] for policy in PolicyName)
    fair = fair_waits(jobs, gpus, times)
    title = f"{name}, {gpus} GPU" + "s" * (gpus > 1)
    rows = [
        Row(f"{title}: makespan / lower bound", own.makespan / own.bound, "×", 1.15),
        Row(f"{title}: … first come, first served", served.makespan / served.bound, "×"),
        Row(f"{title}: … Serve's default scaling", uncoordinated.makespan / uncoordinated.bound, "×"),
        Row(f"{title}: swaps / first come, first served", own.swaps / served.swaps, "×", 1 / 3),
        Row(f"{title}: median wait / first come, first served", own.wait_median / served.wait_median, "×"),
        Row(f"{title}: median wait / Serve's default scaling", own.wait_median / uncoordinated.wait_median, "×"),
    ]
    if len(fair) > 1:
        worst = {
            policy: max(of.wait_p95_by_owner[owner] / wait for owner, wait in fair.items())
            for policy, of in found.items()
        }
        rows.append(Row(f"{title}: an owner's p95 wait / fair share's, worst", worst[PolicyName.SCHEDULER], "×", 2.0))
        rows.append(Row(f"{title}: … first come, first served", worst[PolicyName.FCFS], "×"))
    return rows


def _time(count: int, times: dict[str, ModelTimes]) -> list[Row]:
    jobs = make_trace("steady", THOUSAND, times, jobs=count)
    started = time.perf_counter()
    run_policy(PolicyName.SCHEDULER, jobs, THOUSAND, times)
    seconds = (time.perf_counter() - started) * MILLION / count
    return [Row("replaying a million jobs on a thousand GPUs", seconds, "s", 60.0)]


if __name__ == "__main__":
    main()
