"""What a generator says to the dispatcher while it works: the items of one stream."""

from dataclasses import dataclass
from typing import Any

from wan22_bridge.types import Progress


@dataclass(frozen=True, slots=True)
class Begun:
    """A generator has the job. The first item."""

    replica: str
    """Its id, as Serve has it."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """The job is this far."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class Completed:
    """The video is there. The last item."""

    output: dict[str, Any]
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be no video, for the reason in the interface's error body. The last item."""

    error: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The job was cancelled or overtaken. The last item."""


@dataclass(frozen=True, slots=True)
class Yielded:
    """The job was asked to give up its slot, and is kept as far as it was. The last item."""


Message = Begun | Advanced | Completed | Failed | Stopped | Yielded
