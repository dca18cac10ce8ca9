"""Rank 0's side of a group: keeps the followers in step, and starts new followers after a loss."""

import atexit
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
from diffusers import WanTransformer3DModel

from wan22_bridge.errors import Wan22Error
from wan22_bridge.parallel.channel import End, Rejected, Step
from wan22_bridge.parallel.division import Division
from wan22_bridge.parallel.followers import Followers

Made = TypeVar("Made")

START_SECONDS = 300.0
"""Time limit for a process to start and to import torch."""
LOAD_SECONDS = 3600.0
"""Time limit for a model to load, which all ranks read at once."""
STEP_SECONDS = 1800.0
"""Time limit for one step, which may compile the model or load an expert from a disk."""
AGREE_SECONDS = 5.0
"""Time limit for the followers to meet the error that the leader has met."""

_leading: "weakref.ref[Ranks] | None" = None
"""The group that leads in this process, because torch allows a process one group at a time."""


class Ranks:
    """The processes that run one loaded model together. This process is rank 0.

    The followers start with `start`, and again at the first run after one of them died.
    """

    def __init__(self, load: object, *, degree: int, device: str) -> None:
        """Describes a group; `start` starts its processes.

        Args:
            load: the message that makes a follower load the model.
            degree: number of ranks, with this process.
            device: `cuda` or `cpu`.
        """
        self._load = load
        self._device = device
        self._division = Division(degree, rank=0)
        self._followers: Followers | None = None
        self._end: weakref.finalize[[], Ranks] | None = None

    def divide(self, expert: WanTransformer3DModel) -> None:
        """Divides the forward passes of this process's expert among all ranks."""
        self._division.divide(expert)

    def start(self) -> None:
        """Starts the followers and makes them load the model, while this process loads its own part.

        A group that another model started in this process is closed first.

        Raises:
            RankLost: a process did not start.
        """
        self.close()
        _take_over(self)
        store = self._division.open_store()
        free = partial(_abort_collectives, self._device)
        self._followers = followers = Followers(self._division.degree, self._device, store.port, free)
        self._end = weakref.finalize(self, followers.close)
        with self._closing_on_failure():
            followers.collect(START_SECONDS)
            self._division.join(self._device, store, 2 * STEP_SECONDS)
            followers.send(self._load)

    def wait_until_loaded(self) -> None:
        """Waits until every follower has loaded the model.

        Raises:
            RankLost: a follower died.
            Wan22Error: a follower cannot load the model.
        """
        with self._closing_on_failure():
            self._collect(LOAD_SECONDS)

    def run(self, begin: object, steps: Iterator[Made]) -> Iterator[Made]:
        """Runs `steps` while the followers run theirs, and yields the items of `steps`.

        Args:
            begin: the message that makes a follower start the same run.
            steps: this process's denoising steps.

        Raises:
            RankLost: a follower died. The next run starts new followers.
            OutOfMemoryError: a follower ran out of memory.
        """
        if self._followers is None or self._followers.lost.is_set():
            self.start()
            self.wait_until_loaded()
        with self._closing_on_failure():
            self._send(begin)
            self._collect(START_SECONDS)
        try:
            while (made := self._step_together(steps)) is not None:
                yield made
        finally:
            if self._followers is not None:
                with suppress(OSError):  # The next run notices a follower that died in the meantime.
                    self._send(End())

    def close(self) -> None:
        """Ends the followers and leaves the group."""
        if self._end is None:
            return
        self._end()
        self._followers = self._end = None
        _leave_group()

    def _send(self, command: object) -> None:
        assert self._followers is not None
        self._followers.send(command)

    def _collect(self, seconds: float) -> None:
        """Waits until all followers have completed a command. Raises a rejection's error, after closing the group."""
        assert self._followers is not None
        for answer in self._followers.collect(seconds):
            if isinstance(answer, Rejected):
                self.close()
                raise answer.error

    def _step_together(self, steps: Iterator[Made]) -> Made | None:
        """Runs the next step on all ranks; returns None after the last step."""
        assert self._followers is not None
        with self._closing_on_failure():
            self._send(Step())
            self._followers.set_deadline(STEP_SECONDS)
            try:
                with self._sharing_cores():
                    made = next(steps, None)
            except Wan22Error:
                self._close_unless_all_rejected()
                raise
            self._collect(STEP_SECONDS)
        return made

    def _close_unless_all_rejected(self) -> None:
        """Closes the group unless every follower met the error that this process met, and so waits for a command."""
        assert self._followers is not None
        if not all(isinstance(answer, Rejected) for answer in self._followers.collect(AGREE_SECONDS)):
            self.close()

    @contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        """Closes the group after any error except `Wan22Error`, because the followers may still be in a pass.

        Raises the followers' error instead if they failed first.
        """
        try:
            yield
        except Wan22Error:
            raise
        except BaseException as exc:
            cause = self._followers_error(exc)
            self.close()
            if cause is None:
                raise
            raise cause from exc

    def _followers_error(self, error: BaseException) -> RuntimeError | Wan22Error | None:
        """Returns the followers' error if they caused this process's error; None if this process failed by itself."""
        is_own = isinstance(error, torch.OutOfMemoryError) or not isinstance(error, (RuntimeError, OSError, EOFError))
        # A collective fails in this process a moment before the watch has seen which process ended.
        if is_own or self._followers is None or not self._followers.lost.wait(AGREE_SECONDS):
            return None
        return self._followers.explain_loss()

    def _sharing_cores(self) -> AbstractContextManager[None]:
        """Limits this process to its share of the cores, on a CPU."""
        return _fewer_threads(self._division.degree) if self._device == "cpu" else nullcontext()


@contextmanager
def _fewer_threads(degree: int) -> Iterator[None]:
    """Divides the number of torch's threads by `degree`, because the ranks share this machine's cores.

    Threads of a process wait for each other, and all ranks wait for the slowest rank.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // degree))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _abort_collectives(device: str) -> None:
    """Frees this process from a collective that cannot end. Gloo notices by itself that the other ranks are gone."""
    if device == "cuda" and dist.is_initialized():
        dist.distributed_c10d._abort_process_group()


def _leave_group() -> None:
    """Leaves the group without waiting. `destroy_process_group` of NCCL would wait for ranks that are gone."""
    if dist.is_initialized():
        dist.distributed_c10d._abort_process_group()


def _take_over(ranks: Ranks) -> None:
    """Makes `ranks` the group that leads in this process, and closes the former group."""
    global _leading
    former = _leading() if _leading is not None else None
    if former is not None and former is not ranks:
        former.close()
    _leave_group()  # A former group that was garbage-collected has not left torch's group.
    if _leading is None:
        atexit.register(_close_leading)
    _leading = weakref.ref(ranks)


def _close_leading() -> None:
    ranks = _leading() if _leading is not None else None
    if ranks is not None:
        ranks.close()
