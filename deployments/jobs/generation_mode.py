"""The generation mode: whether jobs get real videos or placeholders. It changes while the service runs."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from deployments.jobs.stored_settings import StoredSettings

_NAME = "generation_mode"
_REPLACED = ("model_loading", "capacity")
"""Categories of errors that mean a missing model or too little memory. Other errors are not replaced, because a
placeholder would hide a fault of the request or of the service."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationMode:
    """The generation mode, as an operator has set it."""

    mock: bool = False
    """Whether new jobs are mock jobs, which get a placeholder that says so. Jobs keep the mode of their submission."""
    mock_fallback: bool = False
    """Whether a real job that would fail, because its model is missing or the device is too small, gets a placeholder
    that states the error."""

    @classmethod
    def read(cls, settings: StoredSettings) -> Self:
        """Reads the mode; the default makes real videos without a fallback."""
        return cls(**settings.get(_NAME, {}))

    @classmethod
    def change(cls, settings: StoredSettings, change: Callable[[Self], Self]) -> Self:
        """Changes the mode for all processes, and returns the new one. It is then on the disk."""
        return cls(**settings.change(_NAME, {}, lambda values: asdict(change(cls(**values)))))

    def replaces(self, error: Mapping[str, Any]) -> bool:
        """Returns whether a placeholder takes the place of a job's error, in the form of the API's inner object."""
        return self.mock_fallback and error["type"] in _REPLACED
