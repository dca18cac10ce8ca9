"""The messages between a leader and its followers, and the socket that carries them.

The messages with a payload, `Load` and `Begin`, belong to the modules whose values they carry.
"""

import io
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import torch

from wan22_bridge.errors import Wan22Error


@dataclass(frozen=True, slots=True)
class Step:
    """Make the next step, with all the others. Answered when it is made."""


@dataclass(frozen=True, slots=True)
class End:
    """Let go of the run. Not answered."""


@dataclass(frozen=True, slots=True)
class Done:
    """What was asked is done; the first one says that the follower is there."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It can't be done, for a reason that the leader will have met, too. The follower stays."""

    error: Wan22Error


@dataclass(frozen=True, slots=True)
class Broken:
    """It failed for a reason of this process's own. The follower ends."""

    reason: str
    out_of_memory: bool


Answer: TypeAlias = Done | Refused | Broken


class Channel:
    """One end. Tensors of the other end's device arrive on this end's."""

    def __init__(self, connection: "Connection[Any, Any]", device: str = "cpu") -> None:
        self._connection = connection
        self._device = device

    def send(self, message: object) -> None:
        """Raises:
        OSError: the other end is gone.
        """
        content = io.BytesIO()
        torch.save(message, content)
        self._connection.send_bytes(content.getbuffer())

    def receive(self) -> Any:
        """Waits for a message.

        Raises:
            EOFError: the other end is gone.
        """
        content = io.BytesIO(self._connection.recv_bytes())
        return torch.load(content, map_location=self._device, weights_only=False)

    def has_message(self) -> bool:
        """Whether there is something to receive now, the end perhaps."""
        return self._connection.poll()

    def close(self) -> None:
        """Closes this end."""
        self._connection.close()
