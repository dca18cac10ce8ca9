"""The values that go in and out of the bridge."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wan22_bridge.experts import Expert

Frames = NDArray[np.uint8]
"""RGB pixels, [frames, height, width, 3] or one frame [height, width, 3]."""


class ModelType(StrEnum):
    """The three Wan2.2 model types."""

    T2V = "T2V-A14B"
    I2V = "I2V-A14B"
    TI2V = "TI2V-5B"


class Stage(StrEnum):
    """What a running job is doing, in the order it does it."""

    DOWNLOADING_MODEL = "downloading_model"
    """While it waits: then the progress is that of the download."""
    LOADING_MODEL = "loading_model"
    PREPARING_INPUTS = "preparing_inputs"
    GENERATING = "generating"
    POST_PROCESSING = "post_processing"
    SAVING = "saving"


class SchedulerName(StrEnum):
    """How the noise is taken away, step by step."""

    UNIPC = "unipc"
    """UniPC of order 2: the official default."""
    EULER = "euler"
    """Plain Euler steps on the flow."""
    DPMPP = "dpm++"
    """DPM-Solver++ of order 2 on the flow."""


class StepCache(StrEnum):
    """What of one step may stand in for the next one's: faster, at a price in likeness."""

    NONE = "none"
    """Every step is computed in full."""
    FIRST_BLOCK = "first_block"
    """Where the first block's output hardly changed, the other blocks are skipped."""
    TAYLORSEER = "taylorseer"
    """Two of three steps are extrapolated, layer by layer."""
    MAGCACHE = "magcache"
    """Steps are skipped while the residual is known to grow evenly there, from one run of the model beforehand."""
    PAB = "pab"
    """Pyramid attention broadcast: attention is computed at every second step only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraUse:
    """A LoRA that a video is made with."""

    name: str
    high_noise_strength: float = 1.0
    """On the high-noise expert, or the only one; 0 leaves it out there."""
    low_noise_strength: float = 1.0

    def strength_on(self, expert: Expert) -> float:
        """The strength on an expert; 0 leaves the LoRA out there."""
        return self.high_noise_strength if expert is Expert.HIGH_NOISE else self.low_noise_strength


INPUTS = ("image", "end_image", "video")
"""The parameters that name a file among the inputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationParams:
    """One video, every choice made: nothing in it is a default that is still to be filled in."""

    model: str
    """The model's id in the catalogue."""
    model_type: ModelType
    prompt: str
    negative_prompt: str
    width: int
    """Pixels, a multiple of the model's own."""
    height: int
    num_frames: int
    """4k+1."""
    fps: int
    steps: int
    guidance_scale: float
    guidance_scale_2: float | None
    """For the low-noise expert; None where the model has one expert."""
    flow_shift: float
    seed: int
    scheduler: SchedulerName = SchedulerName.UNIPC
    step_cache: StepCache = StepCache.NONE
    loras: tuple[LoraUse, ...] = ()
    image: str | None = None
    """The first frame: a path below the folder of inputs. Of a video there, its last frame: it is continued."""
    end_image: str | None = None
    """The last frame, likewise."""
    video: str | None = None
    """A video to make anew, likewise; without an image."""
    strength: float = 1.0
    """With a video: how much of it is made anew, the share of the steps that are run. 1 keeps nothing of it."""

    @property
    def steps_to_run(self) -> int:
        """All steps, or with a video the last ones of them."""
        return self.steps if self.video is None else min(int(self.steps * self.strength), self.steps)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it, and gives it back."""
        return asdict(self) | {"loras": [asdict(lora) for lora in self.loras]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From what `to_dict` gave."""
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        values |= {"model_type": ModelType(data["model_type"])}
        values |= {"scheduler": SchedulerName(data.get("scheduler", SchedulerName.UNIPC))}
        values |= {"loras": tuple(LoraUse(**lora) for lora in data.get("loras", ()))}
        values |= {"step_cache": StepCache(data.get("step_cache", StepCache.NONE))}
        return cls(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Where a generation keeps how far it is, so that it can go on after its process has died."""

    path: Path
    """The snapshot's file. One that is there already, of the same generation, is gone on from."""
    interval_seconds: float
    """A snapshot is written after the first step that ends so long after the last one was."""
    kept: Callable[[float], None] = lambda seconds: None
    """Is called after each snapshot, with what it took in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """Where a generation shows what it is becoming."""

    path: Path
    """An animated WebP; replaced by each newer one, always whole."""
    interval_seconds: float
    """The least time between two."""
    shown: Callable[[], None] = lambda: None
    """Is called after each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a running job is."""

    stage: Stage
    current_step: int = 0
    total_steps: int = 0
    percent: float = 0.0
    """Of the whole job, 0..100."""
    eta_seconds: float | None = None
    """Until the video is there; None while it can't be told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationResult:
    """What a generation made and what it took."""

    video: Path
    thumbnail: Path
    last_frame: Path
    file_size_bytes: int
    generation_time_seconds: float
    model_used: str
    parameters_used: dict[str, Any]
    peak_vram_usage_mb: float
    cpu_usage_percent: float
    """Of one core, averaged over the generation."""
    optimizations_applied: list[str] = field(default_factory=list)
    quantization_used: str | None = None
    offload_used: bool = False
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds for each stage."""
    resumed_from_step: int = 0
    """The steps that an earlier, broken-off run had done."""
    is_mock: bool = False
