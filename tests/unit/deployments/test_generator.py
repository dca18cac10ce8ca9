"""What a generator does when its claim ends before its job does."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from deployments.generator import HUNG, Generator, GeneratorConfig, _Stop
from deployments.jobs.job import ClaimState
from deployments.jobs.store import JobStore
from deployments.messages import Message, Stopped, Yielded
from tests.jobs import make_job
from tests.service import ROOT
from wan22_bridge.plans import Wishes

CONFIG = GeneratorConfig(
    loaded_models=1,
    preload=[],
    checkpoint_interval_seconds=20,
    preview_interval_seconds=0,
    hang_seconds=60,
    wishes=Wishes(),
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
    generator = Generator(url, tmp_path, [], cast(Any, None), CONFIG)
    stop = _Stop()

    async def watch() -> None:
        watching = asyncio.create_task(generator._watch(job, stop))
        await asyncio.sleep(0)
        end(store, job.id)
        await asyncio.wait_for(watching, 10)

    asyncio.run(watch())
    generator.__del__()  # as Serve calls it: what its thread imports is done

    assert stop.is_set()
    assert (stop.claim, stop.message) == (claim, message)


def test_a_job_that_hangs_ends_its_process(tmp_path: Path) -> None:
    """In a process of its own, with a step that never ends; what follows a dead process is the dispatcher's."""
    code = f"""
import asyncio, threading
from dataclasses import replace
from pathlib import Path
from deployments.generator import Generator, _Stop
from deployments.jobs.store import JobStore
from tests.jobs import make_job
from tests.service import ROOT
from tests.unit.deployments.test_generator import CONFIG

store = JobStore("sqlite:///{tmp_path}/jobs.db")
job = store.claim(store.submit(make_job()).id, lease_seconds=60)
config = replace(CONFIG, hang_seconds=1)
generator = Generator("sqlite:///{tmp_path}/jobs.db", Path({str(tmp_path)!r}), [], None, config)
stop, said = _Stop(), []

async def main():
    watching = asyncio.create_task(generator._watch(job, stop))
    hung = (threading.Event().wait() for _ in range(1))
    await asyncio.to_thread(generator._tell, hung, stop, said.append)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == HUNG
