"""Bodies of the requests and responses about optimizations."""

from dataclasses import asdict, replace
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, field_validator, model_validator

from deployments.jobs.optimization_defaults import OptimizationDefaults
from deployments.jobs.replica_registry import ReplicaInfo
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.options import VAE_TILE_SIZES, QuantizationLevel

_MIN_TILE, _MAX_TILE = VAE_TILE_SIZES


class OptimizationBody(BaseModel):
    """The stored defaults of optimizations."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    quantization: QuantizationLevel
    """Default of `quantization_level`; `auto` leaves it to the service."""
    enable_offload: bool | None
    """Default of `enable_offload`; null if there is none."""
    vae_tile_size: int | None
    """Default of `vae_tile_size`; null if there is none."""
    max_vram_usage_gb: float | None
    """Default of `max_vram_usage_gb`; null if there is none."""

    @classmethod
    def of(cls, defaults: OptimizationDefaults) -> "OptimizationBody":
        """Describes the defaults."""
        return cls(**asdict(defaults))


class OptimizationChange(BaseModel):
    """A change of the stored defaults. A field that is left out stays as it is, and null removes its default."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    quantization: QuantizationLevel | None = None
    """Storage of the experts' weights. `auto` and null leave it to the service. `fp16` is not served."""
    enable_offload: StrictBool | None = None
    """Whether weights wait off the device."""
    vae_tile_size: Annotated[int | None, Field(ge=_MIN_TILE, le=_MAX_TILE)] = None
    """Largest side in pixels of the tiles in which the VAE encodes and decodes, rounded down to 512, 256 or 128."""
    max_vram_usage_gb: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """Largest GPU memory in GB of 2^30 bytes that a video may take."""

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, data: Any) -> Any:
        """Rejects an unknown field with the name of the nearest known field."""
        known = list(cls.model_fields)
        for name in data if isinstance(data, dict) else ():
            if name not in known:
                nearest = get_close_matches(name[:80], known, n=1)
                raise InvalidRequest(
                    f"Unknown field {name[:80]!r}." + (f" Did you mean {nearest[0]!r}?" if nearest else ""),
                    code="unknown_field",
                    param=name[:80],
                    suggestions=[f"The fields are {', '.join(known)}."],
                )
        return data

    @field_validator("vae_tile_size", "max_vram_usage_gb", mode="before")
    @classmethod
    def _check_number(cls, value: Any) -> Any:
        """Rejects a boolean, which pydantic would take for 0 or 1, and a text."""
        if isinstance(value, bool | str):
            raise ValueError(f"expected a number, got {value!r:.80}")
        return value

    def apply(self, defaults: OptimizationDefaults) -> OptimizationDefaults:
        """Returns defaults with the changes."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        if "quantization" in values:
            values["quantization"] = self.quantization or QuantizationLevel.AUTO
        return replace(defaults, **values)


class LoadedOptimization(BaseModel):
    """The optimizations with which a replica has a model loaded."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model: str
    quantization: str
    """Storage of the experts' weights: `none`, `fp8`, `int8` or `gguf`."""
    optimizations: list[str]
    """The plan in words; empty if the plan has no optimization."""
    vram_mb: float
    """GPU memory that the weights take between jobs; 0 on a CPU, and if they come onto the GPU in parts only."""


class ReplicaOptimization(BaseModel):
    """A replica, and the optimizations of its loaded models."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    replica: str
    """Id of the replica."""
    node: str
    """Machine on which the replica runs."""
    device: str
    """Name of the GPU or the CPU."""
    job_id: str | None
    """Id of the job that runs on the replica."""
    models: list[LoadedOptimization]


class OptimizationStatus(BaseModel):
    """The optimizations that apply now."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    defaults: OptimizationBody
    """The stored defaults."""
    replicas: list[ReplicaOptimization]
    """The live replicas. A request's own values, and the memory that its video takes, may change a model's plan."""

    @classmethod
    def of(cls, defaults: OptimizationDefaults, replicas: list[ReplicaInfo]) -> "OptimizationStatus":
        """Describes the defaults and the replicas."""
        return cls(
            defaults=OptimizationBody.of(defaults),
            replicas=[
                ReplicaOptimization(
                    replica=replica.id,
                    node=replica.node,
                    device=replica.device,
                    job_id=replica.job_id,
                    models=[
                        LoadedOptimization(
                            model=model.model,
                            quantization=model.quantization,
                            optimizations=model.plan,
                            vram_mb=model.vram_mb,
                        )
                        for model in replica.models
                    ],
                )
                for replica in replicas
            ],
        )
