"""The experts that an uploaded LoRA file is for, as its name or its sender tells."""

import re
from enum import StrEnum

from wan22_bridge.experts import Expert

_SEPARATORS = "._ -"
_TOLD = re.compile(
    rf"(?:^|[{_SEPARATORS}])"
    rf"((?i:high|low)[{_SEPARATORS}]?(?i:noise)|HIGH|LOW|(?i:high|low)(?=$))"
    rf"(?=$|[{_SEPARATORS}])"
)
"""`high_noise` and `HIGH` anywhere, and `high` at the end. Elsewhere it may be part of `high-contrast`."""


class LoraTarget(StrEnum):
    """The experts that an uploaded file is for."""

    BOTH = "both"
    HIGH_NOISE = "high_noise"
    LOW_NOISE = "low_noise"

    @property
    def expert(self) -> Expert | None:
        """The one expert; None stands for both."""
        return None if self is LoraTarget.BOTH else Expert[self.name]


def guess_expert(named: tuple[str, Expert | None]) -> tuple[str, Expert | None]:
    """Finds the expert that a file's name tells by a part such as `HIGH` or `low_noise`.

    Args:
        named: The LoRA's name and the expert, as the endings of the folder's own files tell them.

    Returns:
        The name without that part, which both files of a pair share, and the expert. None stands for both experts.
    """
    name, expert = named
    found = list(_TOLD.finditer(name))
    if expert is not None or len(found) != 1:
        return named
    rest = (name[: found[0].start()] + name[found[0].end() :]).strip(_SEPARATORS)
    if not rest:
        return named
    return rest, Expert.HIGH_NOISE if found[0][1].lower().startswith("high") else Expert.LOW_NOISE
