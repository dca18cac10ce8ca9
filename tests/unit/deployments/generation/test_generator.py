"""What a generator does when its claim ends before its job does."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from deployments.generation.device import Stop
from deployments.generation.generator import Generator, GeneratorConfig
from deployments.jobs.job import ClaimState
from deployments.jobs.store import JobStore
from deployments.messages import Message, Stopped, Yielded
from tests.jobs import make_job
from wan22_bridge.plans import PlanConstraints

CONFIG = GeneratorConfig(
    loaded_models=1,
    preload=[],
    all_models=[],
    checkpoint_interval_seconds=20,
    preview_interval_seconds=0,
    hang_seconds=60,
    constraints=PlanConstraints(),
)

ENDS: dict[str, tuple[Callable[[JobStore, str], object], ClaimState, Message]] = {
    "given back": (lambda store, job_id: store.release(job_id, 1, False), ClaimState.GIVEN_BACK, Stopped()),
    "asked to yield": (lambda store, job_id: store.ask_to_yield(job_id, 1), ClaimState.YIELDING, Yielded()),
    "cancelled": (lambda store, job_id: store.request_cancel(job_id), ClaimState.LOST, Stopped()),
    "deleted": (lambda store, job_id: store.delete(job_id), ClaimState.LOST, Stopped()),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_claim_that_ends_stops_the_job_and_tells_whether_it_goes_on(how: str, tmp_path: Path) -> None:
    end, claim, message = ENDS[how]
    url = f"sqlite:///{tmp_path}/jobs.db"
    store = JobStore(url)
    submitted = store.submit(make_job())
    job = store.claim(submitted.id, lease_seconds=60)
    assert job is not None
    generator = Generator(url, tmp_path, None, [], cast(Any, None), CONFIG)
    stop = Stop()

    async def watch() -> None:
        watching = asyncio.create_task(generator._watch(job, stop))
        await asyncio.sleep(0)
        end(store, job.id)
        await asyncio.wait_for(watching, 10)

    asyncio.run(watch())
    generator.__del__()  # as Serve calls it: what its thread imports is done

    assert stop.is_set()
    assert (stop.claim, stop.message) == (claim, message)
