"""What a generator says to the dispatcher while it works: the items of one stream."""

from dataclasses import dataclass
from typing import Any

from wan22_bridge.types import Progress


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


Message = Advanced | Completed | Failed | Stopped
