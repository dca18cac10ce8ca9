"""Rank 0's side: it keeps its followers in step, and survives them."""

import atexit
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
from diffusers import WanTransformer3DModel

from wan22_bridge.errors import Wan22Error
from wan22_bridge.parallel.channel import End, Refused, Step
from wan22_bridge.parallel.division import Division
from wan22_bridge.parallel.followers import Followers

Made = TypeVar("Made")

START_SECONDS = 300.0
"""For a process to start and to import torch."""
LOAD_SECONDS = 3600.0
"""For a model to load: all ranks read it at once."""
STEP_SECONDS = 1800.0
"""For one step: the first one may compile, and experts may come from a disk."""
AGREE_SECONDS = 5.0
"""For the others to meet the error that this process has met."""

_leading: "weakref.ref[Ranks] | None" = None
"""A process is in one of torch's groups: whoever starts another ends the one before, which starts anew when used."""


class Ranks:
    """The processes that run one loaded model together, this one being rank 0.

    They are started when they are needed and are not there: at first, and after one has died.
    """

    def __init__(self, load: object, *, degree: int, device: str) -> None:
        """Starts no process yet.

        Args:
            load: the message that makes a follower load the model.
            degree: the number of processes, with this one.
            device: `cuda` or `cpu`.
        """
        self._load = load
        self._device = device
        self._division = Division(degree, rank=0)
        self._followers: Followers | None = None
        self._end: weakref.finalize[[], Ranks] | None = None

    def divide(self, expert: WanTransformer3DModel) -> None:
        """Makes an expert of this process be run by all."""
        self._division.divide(expert)

    def start(self) -> None:
        """Starts the followers, which then load while this process does the same.

        Raises:
            RankLost: a process did not start.
        """
        self.close()
        _take_over(self)
        store = self._division.open_store()
        free = partial(_free_from_collectives, self._device)
        self._followers = followers = Followers(self._division.degree, self._device, store.port, free)
        self._end = weakref.finalize(self, followers.close)
        with self._or_close():
            followers.collect(START_SECONDS)
            self._division.join(self._device, store, 2 * STEP_SECONDS)
            followers.tell(self._load)

    def wait_until_loaded(self) -> None:
        """Returns when every follower has the model.

        Raises:
            RankLost: one has died.
            Wan22Error: one can't load it.
        """
        with self._or_close():
            self._collect(LOAD_SECONDS)

    def run(self, begin: object, steps: Iterator[Made]) -> Iterator[Made]:
        """Goes through `steps` while the followers go through theirs, and yields what they yield.

        Raises:
            RankLost: a follower died. The next run starts them anew.
            OutOfMemoryError: a follower has run out of memory.
        """
        if self._followers is None or self._followers.lost.is_set():
            self.start()
            self.wait_until_loaded()
        with self._or_close():
            self._tell(begin)
            self._collect(START_SECONDS)
        try:
            while True:
                with self._in_step():
                    made = next(steps, None)
                if made is None:
                    return
                yield made
        finally:
            if self._followers is not None:
                with suppress(OSError):  # one that is gone by now is missed at the next run
                    self._tell(End())

    def close(self) -> None:
        """Ends the followers; the next run would start them anew."""
        if self._end is None:
            return
        self._end()
        self._followers = self._end = None
        _leave_group()

    def _tell(self, command: object) -> None:
        assert self._followers is not None
        self._followers.tell(command)

    def _collect(self, seconds: float) -> None:
        """Waits until all have done what they were told."""
        assert self._followers is not None
        for answer in self._followers.collect(seconds):
            if isinstance(answer, Refused):
                self.close()
                raise answer.error

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """All make a step together within the context. After an error they stay if all have met it."""
        assert self._followers is not None
        with self._or_close():
            self._tell(Step())
            self._followers.expect_within(STEP_SECONDS)
            try:
                with _share_of_cores(self._division.degree) if self._device == "cpu" else nullcontext():
                    yield
            except Wan22Error:
                answers = self._followers.collect(AGREE_SECONDS)
                if not all(isinstance(answer, Refused) for answer in answers):
                    self.close()
                raise
            self._collect(STEP_SECONDS)

    @contextmanager
    def _or_close(self) -> Iterator[None]:
        """Ends the followers when something fails that they may not have met; what they met first is what is told."""
        try:
            yield
        except Wan22Error:
            raise
        except (RuntimeError, OSError, EOFError) as exc:
            followers, own = self._followers, isinstance(exc, torch.OutOfMemoryError)
            # A collective fails in this process a moment before the watch has seen why.
            if followers is not None and not own and followers.lost.wait(AGREE_SECONDS):
                error = followers.why_lost()
                self.close()
                raise error from exc
            self.close()
            raise
        except BaseException:
            self.close()
            raise


@contextmanager
def _share_of_cores(degree: int) -> Iterator[None]:
    """Leaves the others theirs: threads of one process wait for each other, and all for the slowest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // degree))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _free_from_collectives(device: str) -> None:
    """Frees this process from a collective that can't end. Gloo sees by itself that the others are gone."""
    if device == "cuda" and dist.is_initialized():
        dist.distributed_c10d._abort_process_group()


def _leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _take_over(ranks: Ranks) -> None:
    """Makes it the one that leads in this process."""
    global _leading
    former = _leading() if _leading is not None else None
    if former is not None and former is not ranks:
        former.close()
    _leave_group()  # of one that was forgotten
    if _leading is None:
        atexit.register(_end_all)
    _leading = weakref.ref(ranks)


def _end_all() -> None:
    ranks = _leading() if _leading is not None else None
    if ranks is not None:
        ranks.close()
