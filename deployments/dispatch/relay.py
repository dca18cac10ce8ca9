"""The relay of one claimed job: calls its generator and writes the generator's messages into the store."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from ray.exceptions import RayError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from deployments.dispatch.ending import ClaimEnding
from deployments.jobs.attempts import Interruption
from deployments.jobs.job import Job, LeaseLost
from deployments.jobs.store import JobStore
from deployments.messages import Advanced, Begun, Message
from wan22_bridge.types import Progress, Stage

logger = logging.getLogger("ray.serve")

_RETRY_SECONDS = 1.0
"""Time between two writes while the database does not answer."""


class MessageStream(Protocol):
    """The messages of one job, such as Serve's response generator yields them."""

    def __anext__(self) -> Awaitable[Message]:
        """Returns the next message."""

    def cancel(self) -> None:
        """Ends the call, because nobody reads the stream any more."""


Generate = Callable[[Job], MessageStream]
"""Starts to generate a claimed job."""


def calls(generator: DeploymentHandle[Any]) -> Generate:
    """Returns a function that calls a generator deployment."""

    def generate(job: Job) -> MessageStream:
        handle = generator.options(stream=True, multiplexed_model_id=job.params.model)
        return cast(MessageStream, handle.generate.remote(job))

    return generate


class JobRelay:
    """Relays one claim of a job until the job ends or `stop` is called."""

    def __init__(
        self,
        job: Job,
        store: JobStore,
        ending: ClaimEnding,
        generate: Generate,
        *,
        start_timeout_seconds: float,
    ) -> None:
        self.job = job
        self.ending = ending
        self.begun = False
        """Whether a generator has received the job. From then on the generator itself checks for cancellation."""
        self.replica: str | None = None
        """Serve's id of the replica that runs the job."""
        self.preemption_requested = False
        """Whether the job was asked to give up its slot."""
        self.ended = False
        """Whether the generator has reported the job's end. It is then alive and still has the job's model loaded."""
        self.ends_at: float | None = None
        """Expected end in seconds since the epoch; None while it is unknown."""
        self.load_seconds: float | None = None
        """Time between the claim and the loaded model; None before that."""
        self.unavailable = False
        """Whether the generator's deployment could not start."""
        self._store = store
        self._generate = generate
        self._start_timeout_seconds = start_timeout_seconds
        self._stop = asyncio.Event()
        self._claimed_at = time.time()

    def stop(self) -> None:
        """Ends the relay early: puts the job back into the queue, or ends it if a client has cancelled it."""
        self._stop.set()

    async def run(self) -> None:
        """Relays the job to its end, or puts it back into the queue."""
        try:
            await self._call_generator()
        except LeaseLost:
            extra = {"action": "lease_lost", "job_id": self.job.id}
            logger.info("The claim of job %s was lost", self.job.id, extra=extra)
            await _retry(self.ending.discard)

    async def _call_generator(self) -> None:
        extra = {"action": "generator_died", "job_id": self.job.id}
        stream: MessageStream | None = None
        try:
            stream = self._generate(self.job)
            await self._relay(stream)
        except DeploymentUnavailableError:
            logger.exception("The generator of job %s can't start", self.job.id, extra=extra)
            self.unavailable = True
            await _retry(self.ending.release)
        except TimeoutError:
            logger.error("No generator began job %s in time", self.job.id, extra=extra | {"action": "start_timeout"})
            await _retry(self.ending.give_back, Interruption.NOT_BEGUN)
        except (RayError, RayServeException, StopAsyncIteration):
            logger.exception("The generator of job %s died", self.job.id, extra=extra)
            await _retry(self.ending.give_back, Interruption.PROCESS_DIED)
        finally:
            if stream is not None:
                stream.cancel()

    async def _relay(self, stream: MessageStream) -> None:
        """Writes the generator's messages into the store until the last one, or until `stop` is called.

        Raises:
            TimeoutError: no generator has begun the job in time.
        """
        stop = asyncio.create_task(self._stop.wait())
        try:
            while not self.ended:
                message = await self._next_message(stream, stop)
                if message is None:
                    await _retry(self.ending.release)
                    return
                await self._write(message)
        finally:
            stop.cancel()

    async def _next_message(self, stream: MessageStream, stop: "asyncio.Task[Any]") -> Message | None:
        """Waits for the next message; returns None if `stop` ends first."""
        received = asyncio.ensure_future(stream.__anext__())
        timeout = None if self.begun else self._start_timeout_seconds
        done, _ = await asyncio.wait({received, stop}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if received in done:
            return received.result()
        received.cancel()
        if stop not in done:
            raise TimeoutError
        return None

    async def _write(self, message: Message) -> None:
        self.begun = True
        if isinstance(message, Begun):
            self.replica = message.replica
        elif isinstance(message, Advanced):
            self._note(message.progress)
            job_id, token = self.job.id, self.job.fencing_token
            await _retry(self._store.runner.record_progress, job_id, token, message.progress)
        else:
            self.ended = True
            await _retry(self.ending.end, message)

    def _note(self, progress: Progress) -> None:
        """Updates the load time and the expected end."""
        if self.load_seconds is None and progress.stage is not Stage.LOADING_MODEL:
            self.load_seconds = time.time() - self._claimed_at
        if progress.eta_seconds is not None:
            self.ends_at = time.time() + progress.eta_seconds


async def _retry(write: Callable[..., object], *arguments: Any) -> None:
    """Calls a blocking write in a thread, repeatedly while the database does not answer."""
    while True:
        try:
            await asyncio.to_thread(write, *arguments)
            return
        except SQLAlchemyError:
            logger.exception("The database did not answer", extra={"action": "store_failed"})
            await asyncio.sleep(_RETRY_SECONDS)
