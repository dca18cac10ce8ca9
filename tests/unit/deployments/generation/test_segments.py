"""A long video that another machine continues, with a bucket between the machines."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.generation.device import Device, Stop
from deployments.jobs.job import ClaimState, Job
from deployments.jobs.store import JobStore
from deployments.messages import Advanced, Completed, Message, Preempted
from deployments.storage.bucket import BucketStorage
from tests.bucket import serving_bucket
from tests.jobs import make_job, make_params
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.plans import PlanConstraints
from wan22_bridge.types import ModelType, Stage

pytestmark = pytest.mark.slow

SEGMENTS = [{"prompt": f"a red circle moving {way}", "num_frames": 5, "seed": seed} for seed, way in enumerate("ab")]
PARAMS = make_params(
    model="tiny-ti2v", model_type=ModelType.TI2V, guidance_scale_2=None, num_frames=9, segments=SEGMENTS
)


def test_another_machine_continues_after_the_segments_in_the_bucket(tmp_path: Path, models_dir: Path) -> None:
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db")
    job_id = store.writer.submit(make_job(params=PARAMS)).id
    with serving_bucket() as url:
        first = _claim(store, job_id)
        stop = Stop()

        def preempt_in_the_second_segment(message: Message) -> None:
            assert isinstance(message, Advanced)
            if message.progress.current_step >= 2 and message.progress.stage is Stage.PREPARING_INPUTS:
                stop.claim = ClaimState.PREEMPTED
                stop.set()

        assert _run(tmp_path / "one", url, models_dir, first, stop, preempt_in_the_second_segment) == Preempted()
        store.runner.release(job_id, first.fencing_token)

        reports: list[Advanced] = []

        def collect(message: Message) -> None:
            assert isinstance(message, Advanced)
            reports.append(message)

        ended = _run(tmp_path / "other", url, models_dir, _claim(store, job_id), Stop(), collect)
        assert isinstance(ended, Completed)
        assert ended.result["resumed_from_step"] == 2
        assert min(report.progress.percent for report in reports) > 49, "the first segment is not generated again"
    store.database.close()


def _claim(store: JobStore, job_id: str) -> Job:
    job = store.runner.claim(job_id, lease_seconds=600)
    assert job is not None
    return job


def _run(folder: Path, url: str, models_dir: Path, job: Job, stop: Stop, send: Callable[[Message], None]) -> Message:
    """Runs a claim on a machine of its own."""
    device = Device(BucketStorage(folder, url), PlanConstraints(), checkpoint_seconds=600, preview_seconds=0)
    try:
        folder = ensure_tiny_model(models_dir, "ti2v")
        model = device.thread.submit(device.load, load_catalogue()["tiny-ti2v"], folder).result()
        return device.thread.submit(device.run, model, job, stop, send).result()
    finally:
        device.end()
