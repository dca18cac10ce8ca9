"""What a leader and its followers say to each other, and the socket between them."""

import io
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from wan22_bridge.errors import Wan22Error
from wan22_bridge.types import GenerationParams

if TYPE_CHECKING:
    from wan22_bridge.catalogue import ModelSpec
    from wan22_bridge.conditioning import Conditioning
    from wan22_bridge.loras import LoraRack
    from wan22_bridge.plans import OptimizationPlan
    from wan22_bridge.snapshots import Snapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Load a model's experts. Answered."""

    spec: "ModelSpec"
    folder: Path
    plan: "OptimizationPlan"
    exact: bool
    scratch: Path | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Begin:
    """Stand where a run begins, or goes on from a snapshot. Answered."""

    params: GenerationParams
    conditioning: "Conditioning"
    snapshot: "Snapshot | None"
    loras: "LoraRack"


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


Command: TypeAlias = Load | Begin | Step | End
Answer: TypeAlias = Done | Refused | Broken


class Channel:
    """One end. Tensors of the other end's device arrive on this end's."""

    def __init__(self, connection: "Connection[Any, Any]", device: str = "cpu") -> None:
        self._connection = connection
        self._device = device

    def send(self, message: Command | Answer) -> None:
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
