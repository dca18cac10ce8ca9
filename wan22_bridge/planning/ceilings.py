"""Estimates at which memory ran out, so that later jobs do not repeat the failure."""

from collections.abc import Mapping

from wan22_bridge.plans import HardwareProfile, MemoryEstimate

_FREED = 1.05
"""Factor on the free memory at the failure. With more free memory, the failed plan is worth another attempt."""


class Ceilings:
    """Limits on the estimated peak of each stage, from the out-of-memory errors of this process."""

    def __init__(self) -> None:
        """Starts without limits."""
        self._by_stage: dict[str, int] = {}
        self._free_bytes = 0

    def add(self, needs: Mapping[str, int], hardware: HardwareProfile) -> None:
        """Notes the estimates of the stages in which memory ran out, and the memory that was free then."""
        self._by_stage |= needs
        self._free_bytes = _free_bytes(hardware)

    def remove_if_memory_became_free(self, hardware: HardwareProfile) -> None:
        """Removes the limits if clearly more memory is free than at the last failure."""
        if _free_bytes(hardware) > _FREED * self._free_bytes:
            self._by_stage.clear()

    def allow(self, estimate: MemoryEstimate) -> bool:
        """Returns whether a plan takes less than what ran out, in each stage."""
        return all(needed < self._by_stage.get(stage, needed + 1) for stage, needed in estimate.stages.items())


def _free_bytes(hardware: HardwareProfile) -> int:
    return hardware.vram_free_bytes if hardware.device == "cuda" else hardware.ram_available_bytes
