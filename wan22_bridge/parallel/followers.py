"""The processes that follow, started and watched: when one of them ends, none is left, and nobody waits for it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import wait

import torch

from wan22_bridge.errors import RankLost, Wan22Error
from wan22_bridge.parallel.channel import Answer, Broken, Channel, Refused

_LOOK_SECONDS = 1.0
"""How often the watch looks at the clock; the end of a process it sees at once."""


class Followers:
    """Ranks 1 and up of one group. One that ends takes the others with it."""

    def __init__(self, degree: int, device: str, port: int, when_lost: Callable[[], None]) -> None:
        """Starts them; each says `Done` when it is there.

        Args:
            degree: how many there are with the leader.
            device: `cuda`, where each has the GPU of its rank's number, or `cpu`.
            port: of the store on this machine where the group meets.
            when_lost: called in a thread of its own once one has ended unasked and all are dead.
        """
        self._channels: list[Channel] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._when_lost = when_lost
        self._deadline: float | None = None
        self._closing = False
        self._cause = ""
        self.lost = threading.Event()
        """Set once one has ended unasked, and all have."""
        for rank in range(1, degree):
            self._start(rank, degree, device, port)
        self._watch = threading.Thread(target=self._look_after, name="ranks", daemon=True)
        self._watch.start()

    def _start(self, rank: int, degree: int, device: str, port: int) -> None:
        mine, theirs = Pipe()
        arguments = (theirs.fileno(), rank, degree, device, port)
        # Ray and pytest change sys.path in ways that a new interpreter does not know of.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-P", "-m", "wan22_bridge.follower", *map(str, arguments)],
                pass_fds=(theirs.fileno(),),
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        )
        theirs.close()
        self._channels.append(Channel(mine))

    def tell(self, command: object) -> None:
        """Tells all of them.

        Raises:
            OSError: one is gone.
        """
        for channel in self._channels:
            channel.send(command)

    def collect(self, seconds: float) -> list[Answer]:
        """An answer of each. If one takes longer, all are ended.

        Raises:
            EOFError: one is gone.
        """
        self.expect_within(seconds)
        answers = [channel.receive() for channel in self._channels]
        self.expect_within(None)
        return answers

    def expect_within(self, seconds: float | None) -> None:
        """Ends them all after so many seconds, unless something else is expected before; None: they may take theirs."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def why_lost(self) -> RuntimeError | Wan22Error:
        """What a caller is told: what one of them said before it ended, or how it ended."""
        for rank, channel in enumerate(self._channels, 1):
            try:
                while channel.has_message():
                    answer = channel.receive()
                    if isinstance(answer, Refused):
                        return answer.error
                    if isinstance(answer, Broken) and answer.out_of_memory:
                        return torch.OutOfMemoryError(f"rank {rank}: {answer.reason}")
                    if isinstance(answer, Broken):
                        return _lost(f"rank {rank} failed: {answer.reason}")
            except (EOFError, OSError):
                continue
        return _lost(self._cause or "a process is gone")

    def close(self) -> None:
        """Ends them; a second time does nothing."""
        self._closing = True
        for process in self._processes:
            process.kill()
        if threading.current_thread() is not self._watch:  # a garbage collection may come in any
            self._watch.join()
        for channel in self._channels:
            channel.close()

    def _look_after(self) -> None:
        handles = {os.pidfd_open(process.pid): rank for rank, process in enumerate(self._processes, 1)}
        ended: list[int] = []
        late = False
        while not ended and not late:
            ended = [handle for handle in wait(list(handles), _LOOK_SECONDS) if isinstance(handle, int)]
            late = self._deadline is not None and time.monotonic() > self._deadline
        if ended:
            rank = handles[ended[0]]
            self._cause = f"the process of rank {rank} {_how_ended(self._processes[rank - 1].wait())}"
        else:
            self._cause = "one did not answer in time"
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for handle in handles:
            os.close(handle)
        if not self._closing:
            self._when_lost()
            self.lost.set()


def _how_ended(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _lost(what: str) -> RankLost:
    return RankLost(
        f"The processes that denoise this video together broke off: {what}.",
        suggestions=["Send the request again: the processes are started anew.", "The service's log tells more."],
    )
