"""What a simulation replays: jobs with their times, made by chance, read from a file, or of a store."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

import configs
from deployments.scheduling.policy import Holding, Need, Waiting
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.files import atomic_path

STANDARD = ("steady", "burst", "tenant")
_MIX = {"wan2.2-t2v-a14b": 0.4, "wan2.2-i2v-a14b": 0.3, "wan2.2-ti2v-5b": 0.3}
_SPREAD = (0.7, 1.3)
"""Of a job's length around its model's."""
_STEADY_LOAD, _TENANT_LOADS, _BURST_SECONDS = 0.9, (1.6, 0.1), 600.0
_JOBS_PER_GPU = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTimes:
    """How long one model takes, in seconds."""

    type: str
    run_seconds: float
    load_seconds: float
    swap_seconds: float
    lora_seconds: float

    def change_seconds(self, distance: int) -> float:
        """What a slot needs before it can begin, by how much of `Need.distance` is missing."""
        return (0.0, self.lora_seconds, self.swap_seconds, self.load_seconds)[distance]


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceJob:
    """A job that is submitted `at` a time and runs for `run_seconds`."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    at: Annotated[float, Field(ge=0)]
    model: str
    run_seconds: Annotated[float, Field(gt=0)]
    owner: str = ""
    priority: int = 0
    loras: tuple[str, ...] = ()

    def to_waiting(self, number: int, times: Mapping[str, ModelTimes]) -> Waiting:
        """The job as the scheduler takes it."""
        return Waiting(
            number=number,
            owner=self.owner,
            priority=self.priority,
            need=Need(times[self.model].type, self.model, self.loras),
            since=self.at,
            cost_seconds=self.run_seconds,
            rank=number,
        )


_LINE = TypeAdapter(TraceJob)
"""A line of a file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What became of a job. Times are in seconds."""

    number: int
    slot: int
    claimed_at: float
    began_at: float
    """When what it needs was loaded."""
    ended_at: float
    distance: int
    """How much of what it needs had to be loaded: `Need.distance`."""


def begin_run(
    traced: TraceJob, job: Waiting, slot: int, held: Holding, now: float, times: Mapping[str, ModelTimes]
) -> Run:
    """What becomes of a job that is given to a slot now, which holds this."""
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
    """`configs/times.yaml`."""
    return {
        model: ModelTimes(**values) for model, values in yaml.safe_load(configs.times_file().read_text("utf-8")).items()
    }


def make_trace(
    name: str, gpus: int, times: Mapping[str, ModelTimes], *, jobs: int | None = None, seed: int = 0
) -> list[TraceJob]:
    """One of the standard traces.

    steady: a mix of models at nine tenths of what the GPUs can do. burst: all within ten minutes. tenant: an owner
    who asks for more than there is, and three who ask for a tenth of it each.

    Args:
        name: one of `STANDARD`.
        gpus: what it is for: it grows with them.
        times: of the models.
        jobs: how many; as many as keep each GPU busy for 60 jobs by default.
        seed: of chance.
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
    """Jobs that come in by chance, so many in a second."""
    at, jobs = 0.0, []
    models = chance.choices(list(_MIX), list(_MIX.values()), k=count)
    for model in models:
        at += chance.expovariate(rate)
        run_seconds = times[model].run_seconds * chance.uniform(*_SPREAD)
        jobs.append(TraceJob(at=at, model=model, run_seconds=run_seconds, owner=owner))
    return jobs


def write_trace(path: Path, jobs: Iterable[TraceJob]) -> None:
    """Writes a trace, a line of JSON for each job."""
    with atomic_path(path) as temporary, temporary.open("w") as lines:
        for job in jobs:
            print(json.dumps(asdict(job)), file=lines)


def read_trace(path: Path, times: Mapping[str, ModelTimes]) -> list[TraceJob]:
    """Reads a trace, in the order of submission.

    Raises:
        InvalidRequest: a line is no job, or of a model whose times are not known.
        OSError: it can't be read.
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
                path, number, f"no times are known of the model {job.model[:80]!r}, only of {', '.join(times)}"
            )
        jobs.append(job)
    if not jobs:
        raise InvalidRequest(f"{path} has no jobs.", code="bad_trace")
    return sorted(jobs, key=lambda job: job.at)


def _bad_line(path: Path, number: int, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"{path}, line {number}: {reason}.",
        code="bad_trace",
        suggestions=['A line is {"at": 0, "model": "wan2.2-t2v-a14b", "run_seconds": 320, "owner": "ann"}.'],
    )


def lower_bound(jobs: Sequence[TraceJob], gpus: int) -> float:
    """Before when no schedule can end: what comes in after any moment has to run after it, and a job on one GPU."""
    bound = left = 0.0
    for job in sorted(jobs, key=lambda job: -job.at):
        left += job.run_seconds
        bound = max(bound, job.at + left / gpus, job.at + job.run_seconds)
    return bound
