"""A follower process of a multi-GPU group.

The leader starts it with `python -m wan22_bridge.follower DESCRIPTOR RANK DEGREE DEVICE PORT` and sends it commands
through a socket. The process exits when that socket closes, so it ends with the leader however the leader ends.
"""

import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import torch

from wan22_bridge.device_errors import is_out_of_memory
from wan22_bridge.errors import Wan22Error
from wan22_bridge.machine import count_cores
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.loading import Load
from wan22_bridge.parallel.channel import Channel, Crashed, Done, End, Rejected, Step
from wan22_bridge.parallel.division import Division
from wan22_bridge.parallel.leader import AGREE_SECONDS, STEP_SECONDS
from wan22_bridge.pipeline.denoising import Begin, Denoising, DenoisingStep
from wan22_bridge.reasons import find_reason

Command: TypeAlias = Load | Begin | Step | End


class Follower:
    """State of a follower: a model's experts, and the current run."""

    def __init__(self, division: Division) -> None:
        """Starts without a model; `division` is this process's place in the group."""
        self._division = division
        self._model: LoadedModel | None = None
        self._steps: Iterator[DenoisingStep] = iter(())

    def execute(self, command: Command) -> None:
        """Executes one of the leader's commands; raises what loading or denoising raises."""
        match command:
            case Load():
                self._model = LoadedModel(
                    command.spec,
                    command.folder,
                    command.plan,
                    exact=command.exact,
                    scratch=command.scratch,
                    follows=self._division,
                )
            case Begin():
                assert self._model is not None
                run = Denoising(
                    self._model, command.params, command.conditioning, command.snapshot, loras=command.loras
                )
                self._steps = run.steps()
            case End():
                self._steps = iter(())  # Dropping the run's generator closes it.
            case Step():
                next(self._steps, None)


def _receive_all(channel: Channel, inbox: "queue.SimpleQueue[Command]") -> None:
    """Moves commands into the inbox, and exits the process when the leader is gone.

    Runs in its own thread, because the main thread may wait in a collective for a leader that is gone.
    """
    with suppress(EOFError, OSError):
        while True:
            inbox.put(channel.receive())
    os._exit(0)


def _follow(channel: Channel, inbox: "queue.SimpleQueue[Command]", division: Division) -> None:
    """Executes commands and answers them until one fails."""
    follower = Follower(division)
    seconds = None
    while True:
        command = inbox.get(timeout=seconds)
        seconds = None
        try:
            follower.execute(command)
        except Wan22Error as exc:
            channel.send(Rejected(exc))
            # The leader either met the same error and sends its next command soon, or waits for this process in the
            # middle of a pass. In the second case, this process must exit to free the leader.
            seconds = 2 * AGREE_SECONDS
        except Exception as exc:
            channel.send(Crashed(f"{type(exc).__name__}: {find_reason(exc, limit=300)}", is_out_of_memory(exc)))
            raise
        else:
            if not isinstance(command, End):
                channel.send(Done())


def main(arguments: list[str]) -> None:
    """Follows the leader until the leader ends or a command fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the leader, which decides.
    descriptor, rank, degree, device, port = (*map(int, arguments[:3]), arguments[3], int(arguments[4]))
    own_device = device if device == "cpu" else f"{device}:{rank}"
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.set_num_threads(max(1, count_cores() // degree))
    connection: Connection[Any, Any] = Connection(descriptor)
    channel = Channel(connection, own_device)
    inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
    threading.Thread(target=_receive_all, args=(channel, inbox), daemon=True).start()
    division = Division(degree, rank)
    channel.send(Done())
    division.join(device, division.open_store(port), 2 * STEP_SECONDS)
    _follow(channel, inbox, division)


if __name__ == "__main__":
    main(sys.argv[1:])
