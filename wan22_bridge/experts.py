"""The two experts of a Wan2.2 A14B model."""

from enum import StrEnum


class Expert(StrEnum):
    """A transformer of a model. The value names its folder and its component in diffusers' pipelines."""

    HIGH_NOISE = "transformer"
    """Denoises above the noise boundary. The only expert of TI2V-5B."""
    LOW_NOISE = "transformer_2"
    """Denoises below the noise boundary."""

    @property
    def label(self) -> str:
        """Name in snapshots and reports: `high_noise` or `low_noise`."""
        return self.name.lower()


def is_expert(component: str) -> bool:
    """Returns whether a component of a pipeline, given by its name, is an expert."""
    return component in Expert.__members__.values()
