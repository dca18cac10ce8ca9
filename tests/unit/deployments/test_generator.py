"""What a generator does when its claim ends before its job does."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from deployments.generator import Generator, _Stop
from deployments.jobs.store import JobStore
from tests.jobs import make_job
from wan22_bridge.plans import Wishes

ENDS: dict[str, tuple[Callable[[JobStore, str], object], bool]] = {
    "given back": (lambda store, job_id: store.release(job_id, 1, False), False),
    "cancelled": (lambda store, job_id: store.request_cancel(job_id), True),
    "deleted": (lambda store, job_id: store.delete(job_id), True),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_claim_that_ends_stops_the_job_and_only_a_given_back_one_is_worth_keeping(how: str, tmp_path: Path) -> None:
    end, unwanted = ENDS[how]
    url = f"sqlite:///{tmp_path}/jobs.db"
    store = JobStore(url)
    submitted = store.submit(make_job())
    job = store.claim(submitted.id, lease_seconds=60)
    assert job is not None
    generator = Generator(url, tmp_path, [], cast(Any, None), 20, 0, Wishes())
    stop = _Stop()

    async def watch() -> None:
        watching = asyncio.create_task(generator._watch(job, stop))
        await asyncio.sleep(0)
        end(store, job.id)
        await asyncio.wait_for(watching, 10)

    asyncio.run(watch())

    assert stop.is_set()
    assert stop.unwanted is unwanted
