"""Messages between the leader and its followers, and the socket that carries them.

Messages with a payload, `Load` and `Begin`, are defined by the modules that own the payload.
"""

import io
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import torch

from wan22_bridge.errors import Wan22Error


@dataclass(frozen=True, slots=True)
class Step:
    """Command to run the next step together with all ranks. The follower answers after the step."""


@dataclass(frozen=True, slots=True)
class End:
    """Command to end the current run. The follower does not answer."""


@dataclass(frozen=True, slots=True)
class Done:
    """Answer that the command is complete. A follower's first `Done` reports that its process has started."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Answer that the command failed with an error that the leader meets too. The follower keeps running."""

    error: Wan22Error


@dataclass(frozen=True, slots=True)
class Crashed:
    """Answer that the command failed for a reason of the follower's own. The follower exits."""

    reason: str
    out_of_memory: bool


Answer: TypeAlias = Done | Rejected | Crashed


class Channel:
    """One end of the socket. Received tensors are moved to this end's device."""

    def __init__(self, connection: "Connection[Any, Any]", device: str = "cpu") -> None:
        """Takes the connection and the device of this end, such as `cuda:1`."""
        self._connection = connection
        self._device = device

    def send(self, message: object) -> None:
        """Sends a message.

        Raises:
            OSError: the other end is closed.
        """
        content = io.BytesIO()
        torch.save(message, content)
        self._connection.send_bytes(content.getbuffer())

    def receive(self) -> Any:
        """Waits for a message and returns it.

        Raises:
            EOFError: the other end is closed.
        """
        content = io.BytesIO(self._connection.recv_bytes())
        return torch.load(content, map_location=self._device, weights_only=False)

    def has_message(self) -> bool:
        """Returns whether `receive` would return or raise at once."""
        return self._connection.poll()

    def close(self) -> None:
        """Closes this end."""
        self._connection.close()
