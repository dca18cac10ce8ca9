"""Options of a video: the only place where they are declared."""

from enum import StrEnum
from functools import reduce
from operator import or_
from typing import Annotated, Any, Generic, TypeVar, get_args

from pydantic import ConfigDict, Field, GetCoreSchemaHandler
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, core_schema

MAX_SEED = 2**53 - 1
"""The largest integer that every JSON reader represents exactly."""

DEFAULT_STRENGTH = 0.5
"""Strength of video-to-video where a request sets none: it keeps the video's composition and coarse movement.
At the A14B's flow shift of 12, generation then begins with 92 % of noise, as diffusers' own default of 0.8 does at a
flow shift of 3."""


class SchedulerName(StrEnum):
    """Samplers: the algorithms that remove the noise step by step."""

    UNIPC = "unipc"
    """UniPC of order 2: the official default."""
    EULER = "euler"
    """Plain Euler steps on the flow."""
    DPMPP = "dpm++"
    """DPM-Solver++ of order 2 on the flow."""


class StepCache(StrEnum):
    """Step-cache methods: each reuses computations of earlier steps, which is faster and changes the video."""

    NONE = "none"
    """Every step is computed in full."""
    FIRST_BLOCK = "first_block"
    """The other blocks are skipped in steps where the first block's output hardly changed."""
    TAYLORSEER = "taylorseer"
    """Two of three steps are extrapolated, layer by layer."""
    MAGCACHE = "magcache"
    """Steps are skipped where a calibration run of the model has shown that the residual grows evenly."""
    PAB = "pab"
    """Pyramid attention broadcast: attention is computed in every second step only."""


class QuantizationLevel(StrEnum):
    """Storage of the experts' weights, as a request may ask for it."""

    AUTO = "auto"
    """As the service's configuration says, else unquantized if the weights fit, else fp8."""
    NONE = "none"
    """Not quantized."""
    FP16 = "fp16"
    """Known to clients, but no model is served in it: Wan2.2 was trained in bf16."""
    BF16 = "bf16"
    """Not quantized, on a GPU."""
    FP8 = "fp8"
    """8-bit floating-point numbers."""
    INT8 = "int8"
    """8-bit integers with a scale for each output channel."""


VAE_TILE_SIZES = (128, 512)
"""Smallest and largest side in pixels of a VAE tile that a request may ask for."""


def whole_as_int(value: Any) -> Any:
    """Returns a whole number as an int, so that 24.0 and 24 have the same text in hashes and in the mp4."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class WholeAsInt:
    """Mark of a field of type float whose whole values are read and written as ints."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Returns the field's schema, with the conversion in both directions."""
        return core_schema.no_info_after_validator_function(
            whole_as_int,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(whole_as_int),
        )


Open = TypeVar("Open")
"""`None` in a request, which may leave an option open; `Never` in parameters, where every option is decided."""

_OPEN: Any = None
"""Default of an option that a request may leave open."""


@dataclass(frozen=True, kw_only=True, slots=True, config=ConfigDict(use_attribute_docstrings=True))
class GenerationOptions(Generic[Open]):
    """Options that a request may set.

    `GenerationRequest` and `GenerationParams` inherit these fields. The API's models of submissions and tasks are
    derived from them, with their limits and docstrings. A new option takes one line here, and one where it is used.

    A type with `| Open` marks an option whose default depends on the request or the model: a request that leaves it
    open gets the value of its preset, else of the model.
    """

    negative_prompt: str | Open = _OPEN
    """Text that describes what the video must not show, at most 2000 characters. By default the model's own."""
    num_frames: Annotated[int | Open, Field(ge=1)] = _OPEN
    """Number of frames, rounded down to 4k+1. By default the model's own. Video-to-video takes that many frames from
    the beginning of the input, and by default as many as the model accepts."""
    fps: Annotated[float | Open, Field(ge=1, le=120, allow_inf_nan=False), WholeAsInt()] = _OPEN
    """Frames per second, such as 24 or 23.976. By default the input video's, in video-to-video and video continuation,
    else the model's own."""
    steps: Annotated[int | Open, Field(ge=1, le=100)] = _OPEN
    """Number of denoising steps. By default the model's own."""
    guidance_scale: Annotated[float | Open, Field(ge=0, le=100, allow_inf_nan=False)] = _OPEN
    """Guidance scale of the high-noise expert, or of a model's only expert. 1 or less switches guidance off, unless
    `guidance_scale_2` is above 1: then for this expert only. By default the model's own."""
    guidance_scale_2: Annotated[float | Open | None, Field(ge=0, le=100, allow_inf_nan=False)] = _OPEN
    """Guidance scale of the low-noise expert; models with one expert reject it. By default `guidance_scale` if the
    request sets that, else the model's own."""
    flow_shift: Annotated[float | Open, Field(ge=0.01, le=100, allow_inf_nan=False)] = _OPEN
    """Flow shift: a higher value spends more of the steps at high noise. By default the model's own."""
    boundary_ratio: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    """Noise level at which the low-noise expert takes over from the high-noise expert, from 0 to 1. Models with one
    expert reject it. By default the model's own: 0.875 for T2V-A14B, 0.9 for I2V-A14B."""
    seed: Annotated[int | Open, Field(ge=-1, le=MAX_SEED)] = _OPEN
    """Seed of the random noise. By default, and for -1, the service draws a seed and reports it."""
    scheduler: SchedulerName = SchedulerName.UNIPC
    """Sampler; Wan2.2's official one is UniPC."""
    step_cache: StepCache = StepCache.NONE
    """Step-cache method: reuses computations of earlier steps, which is faster and changes the video."""
    strength: Annotated[
        float | Open,
        Field(
            gt=0,
            le=1,
            allow_inf_nan=False,
            description=(
                "Strength of video-to-video: the share of the denoising steps that are run. Lower values keep more of "
                f"the input, and 1 keeps nothing. The default {DEFAULT_STRENGTH:g} keeps its composition and coarse "
                "movement. The flow shift matters too: at the A14B's 12, a strength of 0.5 begins with 92 % of noise, "
                "as diffusers' own 0.8 does at a flow shift of 3."
            ),
        ),
    ] = _OPEN
    quantization_level: QuantizationLevel = QuantizationLevel.AUTO
    """Storage of the experts' weights. `auto` leaves it to the service. `none`, and `bf16` on a GPU, are unquantized;
    `fp8` and `int8` take half the memory. The model is loaded again if it is stored in another way, which takes as long
    as its first loading. `fp16` is not served."""
    enable_offload: bool | None = None
    """Whether weights wait off the device. True makes at least one component wait in RAM (on a CPU: on the disk). False
    keeps all weights on the device, and rejects the video if they don't fit. By default weights are offloaded only if
    they must be."""
    vae_tile_size: Annotated[int | None, Field(ge=VAE_TILE_SIZES[0], le=VAE_TILE_SIZES[1])] = None
    """Largest side in pixels of the tiles in which the VAE encodes and decodes, 128 to 512, rounded down to 512, 256 or
    128. By default the VAE takes whole frames if they fit."""
    max_vram_usage_gb: Annotated[float | None, Field(gt=0, allow_inf_nan=False), WholeAsInt()] = None
    """Largest GPU memory in GB of 2^30 bytes that the video may take. A video that can't stay below is rejected. A CPU
    takes no GPU memory, so that the limit always holds there. By default all of the GPU's free memory."""


def decided_type(annotation: Any) -> Any:
    """Returns an option's type in parameters, where no option is open: `int` for `int | Open`."""
    kinds = get_args(annotation)
    return reduce(or_, (kind for kind in kinds if kind is not Open)) if Open in kinds else annotation
