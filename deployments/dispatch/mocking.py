"""Mock jobs: the dispatcher makes their placeholder videos itself, without a model, a slot or a generator."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict

from deployments.jobs.job import ClaimState, Job
from deployments.jobs.store import JobStore
from deployments.messages import Advanced, Begun, Completed, Failed, Message, Stopped
from deployments.storage.keys import output_key
from deployments.storage.protocol import Storage
from wan22_bridge.errors import Wan22Error
from wan22_bridge.media.mock import mock_frames
from wan22_bridge.media.output import LAST_FRAME, THUMBNAIL, VIDEO, VideoOutput
from wan22_bridge.types import GenerationResult, Progress, Stage

logger = logging.getLogger("ray.serve")


class MockGenerator:
    """Makes placeholder videos. It has the manner of a generator: a stream of messages for each job."""

    def __init__(self, store: JobStore, storage: Storage) -> None:
        self._store, self._storage = store, storage

    def generate(self, job: Job) -> "MockStream":
        """Returns the messages of a claimed mock job. The last one reports how the job ended."""
        return MockStream(self._run(job))

    async def _run(self, job: Job) -> AsyncGenerator[Message, None]:
        steps = job.params.steps_to_run
        yield Begun("dispatcher")
        yield Advanced(Progress(stage=Stage.GENERATING, current_step=steps, total_steps=steps, percent=50.0))
        yield Advanced(Progress(stage=Stage.SAVING, current_step=steps, total_steps=steps, percent=90.0))
        yield await asyncio.to_thread(self._make_video, job)

    def _make_video(self, job: Job) -> Message:
        """Writes and publishes the video, unless the job was cancelled; returns the last message."""
        started = time.perf_counter()
        output = VideoOutput(self._storage.work.output_folder(job.id, job.fencing_token), job.params)
        try:
            for _ in output.write(mock_frames(job.params)):
                pass
            output.finish()
            self._storage.publish_output(job.id, job.fencing_token)
            if self._store.reader.claim_state(job.id, job.fencing_token) is not ClaimState.HELD:
                return Stopped()
            return _describe(job, output, time.perf_counter() - started)
        except Wan22Error as exc:
            logger.exception("Mock job %s failed", job.id, extra={"action": "job_failed", "job_id": job.id})
            return Failed(exc.to_dict())
        finally:
            output.discard()
            self._storage.remove_work_files(job.id, job.fencing_token)


class MockStream:
    """The messages of one mock job, with the interface of Serve's response generator."""

    def __init__(self, messages: AsyncGenerator[Message, None]) -> None:
        self._messages = messages

    async def __anext__(self) -> Message:
        return await anext(self._messages)

    def cancel(self) -> None:
        """Does nothing: a mock video takes a moment only."""


def _describe(job: Job, output: VideoOutput, seconds: float) -> Completed:
    result = GenerationResult(
        video=output.folder / VIDEO,
        thumbnail=output.folder / THUMBNAIL,
        last_frame=output.folder / LAST_FRAME,
        file_size_bytes=(output.folder / VIDEO).stat().st_size,
        generation_time_seconds=seconds,
        model_used="mock",
        parameters_used=job.params.to_dict(),
        peak_vram_usage_mb=0.0,
        average_vram_usage_mb=0.0,
        cpu_usage_percent=0.0,
        timings={Stage.SAVING.value: seconds},
    )
    values = asdict(result)
    names = {name: values.pop(name).name for name in ("video", "thumbnail", "last_frame")}
    folder = output_key(job.id, job.fencing_token)
    return Completed(
        output={"folder": folder, "file_size_bytes": values.pop("file_size_bytes")} | names,
        result=values | {"success": True, "is_mock": True, "mock_reason": job.params.mock_reason},
    )
