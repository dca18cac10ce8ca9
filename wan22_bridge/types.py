"""Values that the bridge takes and returns: parameters, progress and results."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Never, Self, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from wan22_bridge.experts import Expert
from wan22_bridge.options import GenerationOptions, decided_type, whole_as_int

Frames = NDArray[np.uint8]
"""RGB pixels, [frames, height, width, 3] or one frame [height, width, 3]."""


class ModelType(StrEnum):
    """The three Wan2.2 model types."""

    T2V = "T2V-A14B"
    I2V = "I2V-A14B"
    TI2V = "TI2V-5B"


class Stage(StrEnum):
    """Stages of a job, in the order in which it passes through them."""

    DOWNLOADING_MODEL = "downloading_model"
    """The job is still pending; its progress is that of the download."""
    LOADING_MODEL = "loading_model"
    PREPARING_INPUTS = "preparing_inputs"
    GENERATING = "generating"
    POST_PROCESSING = "post_processing"
    SAVING = "saving"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraUse:
    """A LoRA, and the strengths at which a video uses it."""

    name: str
    high_noise_strength: float = 1.0
    """Strength on the high-noise expert, or on a model's only expert; 0 leaves the LoRA out."""
    low_noise_strength: float = 1.0
    """Strength on the low-noise expert; 0 leaves the LoRA out."""

    def strength_on(self, expert: Expert) -> float:
        """Returns the strength on an expert; 0 leaves the LoRA out."""
        return self.high_noise_strength if expert is Expert.HIGH_NOISE else self.low_noise_strength


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One part of a long video."""

    prompt: str
    num_frames: int
    """Frames that are generated, with the first one. Except in the first segment, that frame is left out."""
    seed: int


_REQUIRED_OPTIONS = [
    name for name, kind in get_type_hints(GenerationOptions).items() if type(None) not in get_args(kind)
]
"""Options that have a value in every video's parameters."""

INPUTS = ("image", "end_image", "video")
"""Names of the parameters that hold the path of an input file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationParams(GenerationOptions[Never]):
    """Complete parameters of one video: every option is decided, and no default is left to fill in."""

    model: str
    """The model's id in the catalogue."""
    model_type: ModelType
    prompt: str
    width: int
    """Pixels, a multiple of the model's size multiple."""
    height: int
    """Pixels, a multiple of the model's size multiple."""
    strength: float = 1.0
    """Share of the denoising steps that are run in video-to-video; 1 without an input video."""
    loras: tuple[LoraUse, ...] = ()
    image: str | None = None
    """Path of the first frame, relative to the bridge's folder of inputs. If the file is a video, its last frame is
    used (video continuation)."""
    end_image: str | None = None
    """Path of the last frame, relative to the bridge's folder of inputs."""
    video: str | None = None
    """Path of the input of video-to-video, relative to the bridge's folder of inputs. It excludes `image` and
    `end_image`."""
    prompt_tokens_dropped: int | None = None
    """Tokens of the prompt beyond the text encoder's limit, which the model does not see; None if unknown."""
    is_mock: bool = False
    """Whether the video is a placeholder that says so, made without a model."""
    mock_reason: str | None = None
    """Error because of which a placeholder takes the video's place; None if a placeholder was asked for."""
    stored_defaults: tuple[str, ...] = ()
    """Names of the parameters that the request left open, and that a stored default of the service set."""
    segments: tuple[Segment, ...] = ()
    """Parts of a long video, each generated from the last frame of the part before it. `num_frames` counts the frames
    of the joined video; `prompt` and `seed` are those of the first segment."""
    joined_frames: int = 0
    """Frames of the continued video that the new video begins with; `num_frames` counts them too. 0 gives the
    continuation alone."""

    def __post_init__(self) -> None:
        """Checks that every option is decided, and gives `fps` one form, because hashes cover it.

        Raises:
            TypeError: an option has no value.
        """
        object.__setattr__(self, "fps", whole_as_int(self.fps))
        still_open = [name for name in _REQUIRED_OPTIONS if getattr(self, name) is None]
        if still_open:
            raise TypeError(f"GenerationParams needs a value for: {', '.join(still_open)}")

    @property
    def steps_to_run(self) -> int:
        """Number of denoising steps that are run: all of them, or in video-to-video the last ones."""
        if self.video is not None:
            return min(int(self.steps * self.strength), self.steps)
        return self.steps * max(1, len(self.segments))

    @property
    def parts(self) -> tuple["GenerationParams", ...]:
        """Parameters of each part that is generated by itself: of each segment, or of the only part."""
        if self.joined_frames:
            return (replace(self, num_frames=self.num_frames - self.joined_frames + 1, joined_frames=0),)
        if not self.segments:
            return (self,)
        return tuple(
            replace(self, prompt=part.prompt, num_frames=part.num_frames, seed=part.seed, segments=())
            for part in self.segments
        )

    @property
    def is_guided(self) -> bool:
        """Whether guidance is on for any expert, so that the run needs the negative prompt."""
        return any(self.guidance_on(expert) is not None for expert in Expert)

    def guidance_on(self, expert: Expert) -> float | None:
        """Returns the guidance scale of an expert; None for an expert that runs without guidance.

        As in diffusers, a guided high-noise expert makes the low-noise expert guided too, even at a scale of 1. Without
        one, the low-noise expert's own scale decides.
        """
        low_noise_scale = self.guidance_scale if self.guidance_scale_2 is None else self.guidance_scale_2
        scale = self.guidance_scale if expert is Expert.HIGH_NOISE else low_noise_scale
        return scale if max(scale, self.guidance_scale) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Returns the parameters as JSON values, which `from_dict` reads."""
        lists = {name: [asdict(item) for item in getattr(self, name)] for name in ("loras", "segments")}
        return asdict(self) | lists | {"stored_defaults": list(self.stored_defaults)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` returned, in this version or another.

        Missing fields get their defaults and unknown fields are ignored. Limits of options are not checked, because
        they may have changed since the data was written.
        """
        adapters = _adapters(cls)  # type: ignore[arg-type]  # mypy doubts that a class is hashable
        return cls(**{name: adapters[name].validate_python(data[name]) for name in adapters if name in data})


@cache
def _adapters(kind: type[GenerationParams]) -> dict[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(decided_type(annotation)) for name, annotation in get_type_hints(kind).items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Settings for the snapshots from which another process can resume a generation."""

    path: Path
    """The snapshot's file. If it holds a snapshot of the same generation, the generation resumes from there."""
    interval_seconds: float
    """Minimum time between two snapshots; each is written at the end of a step."""
    segments: Path | None = None
    """Folder of a long video's complete segments, each in a folder named by its index; by default `segments` beside
    `path`. The generation continues after those segments. Only one process at a time may use the folder."""
    written: Callable[[float], None] = lambda seconds: None
    """Called after each snapshot with the seconds that writing it took."""
    segment_finished: Callable[[int], None] = lambda index: None
    """Called with the index of each complete segment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """Settings for the live previews of a running generation."""

    path: Path
    """The preview's file, an animated WebP. Each preview replaces it atomically."""
    interval_seconds: float
    """Minimum time between two previews."""
    shown: Callable[[], None] = lambda: None
    """Called after each preview is written."""


SEGMENTS_PERCENT = 99.0
"""Progress of a long video in percent when all its segments are complete. Each segment has an equal share of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Progress of a running job."""

    stage: Stage
    current_step: int = 0
    total_steps: int = 0
    percent: float = 0.0
    """Progress of the whole job, 0..100."""
    eta_seconds: float | None = None
    """Estimated time until the video is complete; None while there is no estimate."""
    saved_steps: int = 0
    """Steps in the last snapshot on the disk. A complete segment of a long video counts as a snapshot, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationResult:
    """Files of a finished generation, and what the generation needed."""

    video: Path
    thumbnail: Path
    last_frame: Path
    file_size_bytes: int
    generation_time_seconds: float
    model_used: str
    parameters_used: dict[str, Any]
    peak_vram_usage_mb: float
    average_vram_usage_mb: float
    """Average over the generation; of a long video, over its last segment. 0 on a CPU."""
    cpu_usage_percent: float
    """Average over the generation, in percent of one core."""
    optimizations_applied: list[str] = field(default_factory=list)
    quantization_used: str | None = None
    offload_used: bool = False
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds for each stage."""
    prompt_tokens_dropped: int = 0
    """Tokens of the prompt beyond the text encoder's limit, which the model did not see."""
    resumed_from_step: int = 0
    """Steps that were taken over from the snapshot of an interrupted run; 0 if there was none."""
