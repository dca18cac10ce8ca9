"""The generator's reaction when a claim ends before its job does."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from deployments.generation.device import Stop
from deployments.generation.generator import Generator, GeneratorConfig
from deployments.jobs.job import ClaimState
from deployments.jobs.store import JobStore
from deployments.messages import Advanced, Message, Preempted, Stopped
from deployments.storage.folder import FolderStorage
from tests.jobs import make_job, make_params
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.plans import PlanConstraints
from wan22_bridge.types import Stage

Result = TypeVar("Result")

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
    "given back": (lambda store, job_id: store.runner.release(job_id, 1), ClaimState.GIVEN_BACK, Stopped()),
    "preempted": (lambda store, job_id: store.runner.request_preemption(job_id, 1), ClaimState.PREEMPTED, Preempted()),
    "cancelled": (lambda store, job_id: store.writer.request_cancel(job_id), ClaimState.LOST, Stopped()),
    "deleted": (lambda store, job_id: store.writer.delete(job_id), ClaimState.LOST, Stopped()),
}


def _on_device(generator: Generator, call: Callable[..., Result], *args: Any) -> Result:
    """Calls a method in the device's thread, which alone may call it."""
    return generator._device.thread.submit(call, *args).result()


@pytest.mark.parametrize("how", ENDS)
def test_the_end_of_a_claim_stops_the_job_and_names_the_reason(how: str, tmp_path: Path) -> None:
    end, claim, message = ENDS[how]
    url = f"sqlite:///{tmp_path}/jobs.db"
    store = JobStore(url)
    submitted = store.writer.submit(make_job())
    job = store.runner.claim(submitted.id, lease_seconds=60)
    assert job is not None
    generator = Generator(url, tmp_path, None, [], cast(Any, None), CONFIG)
    stop = Stop()

    async def watch() -> None:
        watching = asyncio.create_task(generator._watch_claim(job, stop))
        await asyncio.sleep(0)
        end(store, job.id)
        await asyncio.wait_for(watching, 10)

    asyncio.run(watch())
    generator.__del__()  # as Serve calls it; waits for the import in the device's thread

    assert stop.is_set()
    assert (stop.claim, stop.message) == (claim, message)


def test_a_job_deleted_while_it_runs_leaves_no_files(tmp_path: Path, models_dir: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    store = JobStore(url)
    submitted = store.writer.submit(make_job())
    job = store.runner.claim(submitted.id, lease_seconds=60)
    assert job is not None
    generator = Generator(url, tmp_path, None, [], cast(Any, None), replace(CONFIG, preview_interval_seconds=1e-6))
    spec = load_catalogue()["tiny-t2v"]
    model = _on_device(generator, generator._device.load, spec, ensure_tiny_model(models_dir, "t2v"))
    outputs, written_later = tmp_path / "outputs" / job.id, list[bool]()

    def delete_during_the_run(message: Message) -> None:
        assert isinstance(message, Advanced)
        if message.progress.stage is Stage.GENERATING and message.progress.current_step == 0:
            store.writer.delete(job.id)
            FolderStorage(tmp_path).remove_outputs(job.id)
        if message.progress.stage is Stage.POST_PROCESSING:
            written_later.append(outputs.exists())

    _on_device(generator, generator._run_on_device, model, job, Stop(), delete_during_the_run)
    generator.__del__()
    assert any(written_later), "no step wrote a preview after the deletion"
    assert not outputs.exists()


def test_each_new_snapshot_is_reported_at_once(tmp_path: Path, models_dir: Path) -> None:
    """Two reports within a stage are usually half a second apart, longer than all steps of a tiny model take."""
    url = f"sqlite:///{tmp_path}/jobs.db"
    store = JobStore(url)
    submitted = store.writer.submit(make_job(params=make_params(steps=4)))
    job = store.runner.claim(submitted.id, lease_seconds=60)
    assert job is not None
    generator = Generator(url, tmp_path, None, [], cast(Any, None), replace(CONFIG, checkpoint_interval_seconds=0))
    spec = load_catalogue()["tiny-t2v"]
    model = _on_device(generator, generator._device.load, spec, ensure_tiny_model(models_dir, "t2v"))
    saved = list[int]()

    def write(message: Message) -> None:
        assert isinstance(message, Advanced)
        store.runner.record_progress(job.id, job.fencing_token, message.progress)
        saved.append(store.reader.get(job.id).saved_steps)

    _on_device(generator, generator._run_on_device, model, job, Stop(), write)
    generator.__del__()
    assert {1, 2, 3} <= set(saved)
    store.database.close()
