"""The experts that a LoRA's file is for."""

from enum import StrEnum

from wan22_bridge.experts import Expert


class LoraTarget(StrEnum):
    """The experts that an uploaded file is for."""

    BOTH = "both"
    HIGH_NOISE = "high_noise"
    LOW_NOISE = "low_noise"

    @property
    def expert(self) -> Expert | None:
        """The one expert; None stands for both."""
        return None if self is LoraTarget.BOTH else Expert[self.name]
