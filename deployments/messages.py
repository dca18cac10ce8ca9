"""The messages of a generator to the dispatcher: the items of the stream of one job."""

from dataclasses import dataclass
from typing import Any

from wan22_bridge.types import Progress


@dataclass(frozen=True, slots=True)
class Begun:
    """The generator has received the job. This is the first message."""

    replica: str
    """Serve's id of the replica."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """The job has made progress."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class Completed:
    """The job's video is in the storage. This is a last message."""

    output: dict[str, Any]
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """The job failed. This is a last message."""

    error: dict[str, Any]
    """The inner object of the API's error body."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The job was stopped, because it was cancelled or its claim was lost. This is a last message."""


@dataclass(frozen=True, slots=True)
class Preempted:
    """The job was checkpointed to give up its slot. This is a last message."""


Message = Begun | Advanced | Completed | Failed | Stopped | Preempted
