"""A process that follows: `python -m wan22_bridge.follower FD RANK DEGREE DEVICE PORT`, as the leader starts it.

It makes the steps that the leader makes, each when it is told to. It ends with the leader, however that ends: the
socket between them closes.
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

from wan22_bridge.errors import Wan22Error
from wan22_bridge.models.loaded import Load, LoadedModel
from wan22_bridge.out_of_memory import is_out_of_memory
from wan22_bridge.parallel.channel import Broken, Channel, Done, End, Refused, Step
from wan22_bridge.parallel.division import Division
from wan22_bridge.parallel.leader import AGREE_SECONDS, STEP_SECONDS
from wan22_bridge.pipeline.denoising import Begin, Denoising, DenoisingStep

Command: TypeAlias = Load | Begin | Step | End


class Follower:
    """What a follower holds: a model's experts, and the run that goes on."""

    def __init__(self, division: Division) -> None:
        self._division = division
        self._model: LoadedModel | None = None
        self._steps: Iterator[DenoisingStep] = iter(())

    def obey(self, command: Command) -> None:
        """Does what the leader says."""
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
                self._steps = iter(())  # its generator is closed with it
            case _:
                next(self._steps, None)


def _receive_all(channel: Channel, inbox: "queue.SimpleQueue[Command]") -> None:
    """In a thread of its own, for the main one may wait for a leader who is no more."""
    with suppress(EOFError, OSError):
        while True:
            inbox.put(channel.receive())
    os._exit(0)


def _follow(channel: Channel, inbox: "queue.SimpleQueue[Command]", division: Division) -> None:
    follower = Follower(division)
    seconds = None
    while True:
        command = inbox.get(timeout=seconds)
        seconds = None
        try:
            follower.obey(command)
        except Wan22Error as exc:
            channel.send(Refused(exc))
            # The leader has met the same and goes on, or waits for this process in the middle of a pass.
            seconds = 2 * AGREE_SECONDS
        except Exception as exc:
            channel.send(Broken(f"{type(exc).__name__}: {exc}"[:300], is_out_of_memory(exc)))
            raise
        else:
            if not isinstance(command, End):
                channel.send(Done())


def main(arguments: list[str]) -> None:
    """Runs until the leader ends, or something fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the leader, who decides when the step has ended
    descriptor, rank, degree, device, port = (*map(int, arguments[:3]), arguments[3], int(arguments[4]))
    own_device = device if device == "cpu" else f"{device}:{rank}"
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // degree))
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
