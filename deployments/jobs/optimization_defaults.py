"""Defaults for requests that don't say how their model is to be optimized. They change while the service runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from deployments.jobs.stored_settings import StoredSettings
from wan22_bridge.errors import Wan22Error
from wan22_bridge.options import QuantizationLevel
from wan22_bridge.types import GenerationParams

_NAME = "optimization_defaults"
_OPEN = (None, QuantizationLevel.AUTO)
"""Values of a default that is not set, and of a parameter that a request leaves open."""
_CAUSES = {
    "quantization_not_served": ("quantization_level",),
    "offload_not_supported": ("enable_offload", "quantization_level"),
    "vram_insufficient": ("max_vram_usage_gb", "enable_offload", "quantization_level", "vae_tile_size"),
    "ram_insufficient": ("enable_offload", "quantization_level", "max_vram_usage_gb"),
    "cuda_oom": ("enable_offload", "quantization_level", "max_vram_usage_gb"),
}
"""Parameters that may have caused an error, by the error's code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizationDefaults:
    """The defaults, as an operator has set them. `auto` and None mean that there is no default."""

    quantization: QuantizationLevel = QuantizationLevel.AUTO
    """Default of `quantization_level`."""
    enable_offload: bool | None = None
    vae_tile_size: int | None = None
    max_vram_usage_gb: float | None = None

    @classmethod
    def read(cls, settings: StoredSettings) -> Self:
        """Reads the defaults; nothing is set until an operator sets it."""
        return cls._of(settings.get(_NAME, {}))

    @classmethod
    def change(cls, settings: StoredSettings, change: Callable[[Self], Self]) -> Self:
        """Changes the defaults for all processes, and returns the new ones. They are then on the disk."""
        return cls._of(settings.change(_NAME, {}, lambda values: asdict(change(cls._of(values)))))

    @classmethod
    def _of(cls, values: dict[str, Any]) -> Self:
        return cls(**values | {"quantization": QuantizationLevel(values.get("quantization", "auto"))})

    def as_params(self) -> dict[str, Any]:
        """Returns the defaults that are set, by the names of the parameters that they fill."""
        values = asdict(self)
        values["quantization_level"] = values.pop("quantization")
        return {name: value for name, value in values.items() if value not in _OPEN}

    def fill(self, params: GenerationParams) -> GenerationParams:
        """Returns the parameters with the defaults in place of those that the request left open."""
        filled = {name: value for name, value in self.as_params().items() if getattr(params, name) in _OPEN}
        return replace(params, **filled, stored_defaults=tuple(filled))


def explain_defaults(error: Wan22Error, params: GenerationParams) -> None:
    """Adds to a job's error which stored defaults may have caused it, because the request does not show them."""
    causes = [name for name in _CAUSES.get(error.code, ()) if name in params.stored_defaults]
    if not causes:
        return
    values = ", ".join(f"{name} {getattr(params, name)}" for name in causes)
    error.message += f" The request does not set these values; they are stored defaults of the service: {values}."
    error.suggestions.append(
        f"Send {' and '.join(causes)} with the request, or change the stored defaults with "
        "POST /api/v1/system/optimization."
    )


@contextmanager
def explaining_defaults(params: GenerationParams) -> Iterator[None]:
    """Returns a context that explains the stored defaults in the errors that it raises: see `explain_defaults`."""
    try:
        yield
    except Wan22Error as exc:
        explain_defaults(exc, params)
        raise
