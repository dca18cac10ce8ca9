"""The follower processes of one group: their start, their commands, and a watch that ends all of them together."""

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
from wan22_bridge.parallel.channel import Answer, Channel, Crashed, Rejected

_DEADLINE_CHECK_SECONDS = 1.0
"""Interval at which the watch checks the deadline. The watch notices the end of a process at once."""


class Followers:
    """Ranks 1 and up of one group. When one process ends or misses a deadline, the watch kills the others."""

    def __init__(self, degree: int, device: str, port: int, on_lost: Callable[[], None]) -> None:
        """Starts the processes. Each answers `Done` when it has started.

        Args:
            degree: number of ranks in the group, with the leader.
            device: `cuda`, where each rank uses the GPU with its own number, or `cpu`.
            port: port on this machine of the store where the group meets.
            on_lost: called in the watch's thread after a process ended without `close`, when all processes are dead.
        """
        self._channels: list[Channel] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._on_lost = on_lost
        self._deadline: float | None = None
        self._closing = False
        self._cause = ""
        self.lost = threading.Event()
        """Set after a process ended without `close`, when all processes are dead."""
        for rank in range(1, degree):
            self._start(rank, degree, device, port)
        self._watch_thread = threading.Thread(target=self._watch, name="ranks", daemon=True)
        self._watch_thread.start()

    def send(self, command: object) -> None:
        """Sends a command to all followers.

        Raises:
            OSError: a follower is gone.
        """
        for channel in self._channels:
            channel.send(command)

    def collect(self, seconds: float) -> list[Answer]:
        """Waits for an answer from each follower. All followers are killed if one takes longer than `seconds`.

        Raises:
            EOFError: a follower is gone.
        """
        self.set_deadline(seconds)
        answers = [channel.receive() for channel in self._channels]
        self.set_deadline(None)
        return answers

    def set_deadline(self, seconds: float | None) -> None:
        """Replaces the deadline after which all followers are killed; None removes the deadline."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def explain_loss(self) -> RuntimeError | Wan22Error:
        """Returns the error of the first follower that reported one, else an error that says how a process ended."""
        for rank, channel in enumerate(self._channels, 1):
            try:
                while channel.has_message():
                    answer = channel.receive()
                    if isinstance(answer, Rejected):
                        return answer.error
                    if isinstance(answer, Crashed) and answer.out_of_memory:
                        return torch.OutOfMemoryError(f"rank {rank}: {answer.reason}")
                    if isinstance(answer, Crashed):
                        return _rank_lost(f"rank {rank} failed: {answer.reason}")
            except (EOFError, OSError):
                continue
        return _rank_lost(self._cause or "a process is gone")

    def close(self) -> None:
        """Kills the processes. A second call does nothing."""
        self._closing = True
        for process in self._processes:
            process.kill()
        # The garbage collector may call this in the watch's own thread, which cannot join itself.
        if threading.current_thread() is not self._watch_thread:
            self._watch_thread.join()
        for channel in self._channels:
            channel.close()

    def _start(self, rank: int, degree: int, device: str, port: int) -> None:
        mine, theirs = Pipe()
        arguments = (theirs.fileno(), rank, degree, device, port)
        # Passed on, because Ray and pytest change sys.path, and a new interpreter would not see their changes.
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

    def _watch(self) -> None:
        """Waits until a process ends or the deadline passes, then kills all processes."""
        handles = {os.pidfd_open(process.pid): rank for rank, process in enumerate(self._processes, 1)}
        ended: list[int] = []
        late = False
        while not ended and not late:
            ended = [handle for handle in wait(list(handles), _DEADLINE_CHECK_SECONDS) if isinstance(handle, int)]
            late = self._deadline is not None and time.monotonic() > self._deadline
        if ended:
            rank = handles[ended[0]]
            self._cause = f"the process of rank {rank} {_describe_exit(self._processes[rank - 1].wait())}"
        else:
            self._cause = "a process did not answer in time"
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for handle in handles:
            os.close(handle)
        if not self._closing:
            self._on_lost()
            self.lost.set()


def _describe_exit(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _rank_lost(cause: str) -> RankLost:
    return RankLost(
        f"The group of processes that denoised this video failed: {cause}.",
        suggestions=["Send the request again; the processes restart.", "See the service's log for details."],
    )
