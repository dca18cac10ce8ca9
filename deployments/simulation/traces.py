"""Traces: jobs with arrival and run times, generated at random or read from a file."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

import configs
from deployments.scheduling.policy import Holding, Need, Waiting
from wan22_bridge.errors import InvalidRequest

STANDARD = ("steady", "burst", "tenant")
"""Names of the standard traces."""
_MIX = {"wan2.2-t2v-a14b": 0.4, "wan2.2-i2v-a14b": 0.3, "wan2.2-ti2v-5b": 0.3}
"""Share of the jobs of each model."""
_SPREAD = (0.7, 1.3)
"""Range of a job's run time, relative to its model's."""
_STEADY_LOAD, _TENANT_LOADS, _BURST_SECONDS = 0.9, (1.6, 0.1), 600.0
_JOBS_PER_GPU = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTimes:
    """The times of one model, in seconds."""

    type: str
    run_seconds: float
    load_seconds: float
    swap_seconds: float
    lora_seconds: float

    def change_seconds(self, distance: int) -> float:
        """Returns the time that a slot needs before it can begin a job, by the job's `Need.distance`."""
        return (0.0, self.lora_seconds, self.swap_seconds, self.load_seconds)[distance]


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceJob:
    """A job that arrives at the time `at` and runs for `run_seconds`."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    at: Annotated[float, Field(ge=0)]
    model: str
    run_seconds: Annotated[float, Field(gt=0)]
    owner: str = ""
    priority: int = 0
    loras: tuple[str, ...] = ()

    def to_waiting(self, number: int, times: Mapping[str, ModelTimes]) -> Waiting:
        """Returns the job in the scheduler's form."""
        return Waiting(
            number=number,
            owner=self.owner,
            priority=self.priority,
            need=Need(times[self.model].type, self.model, self.loras),
            since=self.at,
            cost_seconds=self.run_seconds,
            queue_order=number,
        )


_LINE = TypeAdapter(TraceJob)
"""The parser of a trace file's lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The simulated run of a job. Times are in seconds."""

    number: int
    slot: int
    claimed_at: float
    began_at: float
    """Time at which the model and the LoRAs were loaded."""
    ended_at: float
    distance: int
    """The `Need.distance` of the job from its slot."""


def begin_run(
    traced: TraceJob, job: Waiting, slot: int, held: Holding, now: float, times: Mapping[str, ModelTimes]
) -> Run:
    """Returns the run of a job that a slot with the holding `held` gets now."""
    distance = job.need.distance(held)
    began_at = now + times[job.need.model].change_seconds(distance)
    return Run(
        number=job.number,
        slot=slot,
        claimed_at=now,
        began_at=began_at,
        ended_at=began_at + traced.run_seconds,
        distance=distance,
    )


def load_times() -> dict[str, ModelTimes]:
    """Reads the times of each model from `configs/times.yaml`."""
    return {
        model: ModelTimes(**values) for model, values in yaml.safe_load(configs.times_file().read_text("utf-8")).items()
    }


def make_trace(
    name: str, gpus: int, times: Mapping[str, ModelTimes], *, jobs: int | None = None, seed: int = 0
) -> list[TraceJob]:
    """Generates one of the standard traces.

    - steady: a mix of models at nine tenths of the GPUs' capacity.
    - burst: all jobs arrive within ten minutes.
    - tenant: one owner asks for 1.6 times the capacity, and three owners for a tenth of it each.

    Args:
        name: one of `STANDARD`.
        gpus: number of GPUs, to which the arrival rate is proportional.
        times: the times of each model.
        jobs: number of jobs; 60 for each GPU by default.
        seed: seed of the random numbers.
    """
    chance, count = random.Random(seed), jobs or _JOBS_PER_GPU * gpus
    capacity = gpus / sum(share * times[model].run_seconds for model, share in _MIX.items())
    if name == "tenant":
        heavy, light = _TENANT_LOADS
        total = heavy + 3 * light
        loads = {"tenant": heavy, **{f"guest-{index}": light for index in (1, 2, 3)}}
        parts = [
            _stream(chance, round(count * load / total), load * capacity, times, owner) for owner, load in loads.items()
        ]
        return sorted((job for part in parts for job in part), key=lambda job: job.at)
    rate = _STEADY_LOAD * capacity if name == "steady" else count / _BURST_SECONDS
    return _stream(chance, count, rate, times, "")


def _stream(
    chance: random.Random, count: int, rate: float, times: Mapping[str, ModelTimes], owner: str
) -> list[TraceJob]:
    """Generates `count` jobs that arrive at random, `rate` in a second on average."""
    at, jobs = 0.0, []
    models = chance.choices(list(_MIX), list(_MIX.values()), k=count)
    for model in models:
        at += chance.expovariate(rate)
        run_seconds = times[model].run_seconds * chance.uniform(*_SPREAD)
        jobs.append(TraceJob(at=at, model=model, run_seconds=run_seconds, owner=owner))
    return jobs


def read_trace(path: Path, times: Mapping[str, ModelTimes]) -> list[TraceJob]:
    """Reads a trace and sorts it by arrival.

    Args:
        path: a file with a line of JSON for each job.
        times: the times of each model.

    Raises:
        InvalidRequest: a line is not a job, or names a model without known times.
        OSError: the file can't be read.
    """
    jobs = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            job = _LINE.validate_json(line)
        except ValidationError as exc:
            first = exc.errors()[0]
            raise _bad_line(path, number, " ".join([*map(str, first["loc"]), first["msg"]])) from exc
        if job.model not in times:
            raise _bad_line(
                path, number, f"the model {job.model[:80]!r} has no known times, expected one of {', '.join(times)}"
            )
        jobs.append(job)
    if not jobs:
        raise InvalidRequest(f"{path} has no jobs.", code="bad_trace")
    return sorted(jobs, key=lambda job: job.at)


def _bad_line(path: Path, number: int, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"{path}, line {number}: {reason}.",
        code="bad_trace",
        suggestions=['Write each line like {"at": 0, "model": "wan2.2-t2v-a14b", "run_seconds": 320, "owner": "ann"}.'],
    )


def lower_bound(jobs: Sequence[TraceJob], gpus: int) -> float:
    """Returns a lower bound of the makespan over all schedules.

    All work that arrives after a moment must run after it, and a job runs on one GPU.
    """
    bound = left = 0.0
    for job in sorted(jobs, key=lambda job: -job.at):
        left += job.run_seconds
        bound = max(bound, job.at + left / gpus, job.at + job.run_seconds)
    return bound
