"""Bodies of the requests and responses about the generation mode."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, StrictBool

from deployments.jobs.generation_mode import GenerationMode


class GenerationModeBody(BaseModel):
    """The generation mode."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    mode: Literal["real", "mock"]
    """In mock mode, new jobs end within about a second with a placeholder that says so, without a model or a GPU."""
    mock_fallback: bool
    """Whether a real job that would fail, because its model is missing or the device is too small, ends with a
    placeholder that states the error."""

    @classmethod
    def of(cls, mode: GenerationMode) -> "GenerationModeBody":
        """Describes a mode."""
        return cls(mode="mock" if mode.mock else "real", mock_fallback=mode.mock_fallback)


class GenerationModeChange(BaseModel):
    """A change of the generation mode. Fields that are left out stay as they are."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    mode: Literal["real", "mock"] | None = None
    mock_fallback: StrictBool | None = None

    def apply(self, mode: GenerationMode) -> GenerationMode:
        """Returns a mode with the changes."""
        return GenerationMode(
            mock=mode.mock if self.mode is None else self.mode == "mock",
            mock_fallback=mode.mock_fallback if self.mock_fallback is None else self.mock_fallback,
        )
