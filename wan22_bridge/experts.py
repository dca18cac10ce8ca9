"""The two experts of a Wan2.2 A14B model, and their names in files and pipelines."""

from enum import StrEnum


class Expert(StrEnum):
    """A transformer of a model. The value is its folder, and its name in diffusers' pipelines."""

    HIGH_NOISE = "transformer"
    """Denoises above the boundary; the only expert of TI2V-5B."""
    LOW_NOISE = "transformer_2"
    """Denoises below the boundary."""

    @property
    def label(self) -> str:
        """The expert's name in snapshots and reports: `high_noise` or `low_noise`."""
        return self.name.lower()
