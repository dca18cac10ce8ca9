"""Bodies of the native API's submissions."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from deployments.jobs.job import Job, Priority
from serve_app.api.schemas.generation_options import OPTION_NAMES, accepts_options
from serve_app.api.schemas.seeds import NumOutputs, Seeds, choose_seeds
from serve_app.api.schemas.texts import STORABLE, WEBHOOK_URL, Prompt
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.options import MAX_SEED
from wan22_bridge.requests import AUTO, GenerationRequest, RequestedSegment
from wan22_bridge.types import LoraUse

_SIZE = r"^(\s*[1-9]\d{0,5}\s*[xX×*]\s*[1-9]\d{0,5}\s*|(480|720)[pP])?$"
"""Pattern of a size or a class of sizes. The empty text of an empty form field means the default."""


class LoraField(BaseModel):
    """A LoRA, and the strengths at which a video uses it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: str
    """Name of a LoRA that the server knows."""
    strength: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    """Strength on the high-noise expert, or on a model's only expert."""
    strength_2: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    """Strength on the low-noise expert. By default the same as `strength`."""

    @classmethod
    def of(cls, use: LoraUse) -> "LoraField":
        """Describes a LoRA of a job."""
        return cls(name=use.name, strength=use.high_noise_strength, strength_2=use.low_noise_strength)

    def to_use(self) -> LoraUse:
        """Returns the LoRA as the bridge takes it."""
        low_noise_strength = self.strength if self.strength_2 is None else self.strength_2
        return LoraUse(name=self.name, high_noise_strength=self.strength, low_noise_strength=low_noise_strength)


class SegmentField(BaseModel):
    """One part of a long video."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    prompt: Prompt
    """Text that describes the segment, 1 to 2000 characters."""
    num_frames: int | None = Field(default=None, ge=1)
    """Number of frames, rounded down to 4k+1. By default the request's `num_frames`, else the model's own. All segments
    but the first begin with the last frame of the segment before them, which the video has only once."""
    seed: int | None = Field(default=None, ge=-1, le=MAX_SEED)
    """Seed of the random noise. By default the request's seed plus the segment's index, else drawn and reported."""

    @field_validator("num_frames", "seed", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        return None if value == "" else value


MAX_SECONDS = 3600
"""Videos are shorter than this."""


@accepts_options
class SubmitRequest(BaseModel):
    """A video to generate. Fields that are left out get the defaults of the preset, else of the model."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    prompt: Prompt
    """Text that describes the video, 1 to 2000 characters. Required unless there are `segments`."""
    model_type: str = AUTO
    """A model's id, type or repository, in any case. `auto` chooses image-to-video if there is an image, else
    text-to-video."""
    resolution: str | None = Field(default=None, json_schema_extra={"pattern": _SIZE})
    """Size as WIDTHxHEIGHT in pixels, rounded down to the model's multiple, or `480p` or `720p` for the model's own
    size of that class. By default about the area of the model's own size, in the shape of the input image or video. A
    video continuation keeps the size of its input, if that is no larger."""
    aspect_ratio: str | None = None
    """Shape as WIDTH:HEIGHT, such as `16:9`, `9:16` or `1:1`, for the model's own size of that shape."""
    seconds: float | None = Field(
        default=None, json_schema_extra={"exclusiveMinimum": 0, "exclusiveMaximum": MAX_SECONDS}
    )
    """Length of the video, used if `num_frames` is left out; above 0 and below 3600."""
    preset: str | None = None
    """Name of a set of other defaults of the model, such as `lightning`. `GET /v1/models` lists them."""
    image_path: str | None = None
    """First frame: the id of an upload. With the id of an uploaded video or of a completed job, the new video continues
    that video from its last frame."""
    end_image_path: str | None = None
    """Last frame: the id of an upload."""
    video_path: str | None = None
    """Input of video-to-video: the id of an upload or of a completed job."""
    lora_path: str = ""
    """Name of a LoRA that the server knows. Empty means none."""
    lora_strength: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    """Strength of the LoRA in `lora_path`, on both experts."""
    loras: list[LoraField] = Field(default=[], max_length=8)
    """LoRAs to use together, each with its strengths."""
    segments: list[SegmentField] = Field(default=[], max_length=16)
    """Parts of a long video, 2 to 16. Each is generated from the last frame of the part before it, and all are joined
    into one mp4. They replace `prompt`. The model must accept an image; without `image`, use TI2V-5B."""
    num_outputs: NumOutputs = 1
    """Number of videos to make with different seeds, 1 to 8. Each is a job of its own, and the jobs are one batch. With
    `seed`, the seeds are `seed`, `seed` + 1 and so on; without, each job draws its own."""
    seeds: Seeds = []
    """Seeds of the videos to make, one job for each, instead of `seed`: 1 to 8 different whole numbers from 0. A
    request that sends `num_outputs` too must send as many seeds."""
    joined: bool = False
    """With a video to continue: whether the new video begins with that video. Its frames are scaled to the new video's
    size, and its sound is left out. /v1/videos/extensions joins by default."""
    priority: Literal["low", "normal", "high"] = "normal"
    """Priority in the job queue."""
    metadata: dict[
        Annotated[str, StringConstraints(max_length=64)],
        Annotated[str, StringConstraints(max_length=512, pattern=STORABLE)],
    ] = Field(default={}, max_length=16, json_schema_extra={"propertyNames": {"maxLength": 64, "pattern": STORABLE}})
    """The client's own key-value pairs, returned with the job."""
    webhook_url: str | None = WEBHOOK_URL
    """Receiver of a signed POST request when the job is completed, failed or cancelled: an http or https URL with a
    public address. Responses leave it out. See the guide on webhooks."""

    @model_validator(mode="before")
    @classmethod
    def _read_segments(cls, data: Any) -> Any:
        """Reads the numbered segments of a form, and takes the prompt from the first segment."""
        if not isinstance(data, dict) or not data.get("segments"):
            return data
        segments = data["segments"]
        if isinstance(segments, dict) and all(str(key).isascii() and str(key).isdigit() for key in segments):
            segments = [segments[key] for key in sorted(segments, key=int)]
        if data.get("prompt"):
            raise InvalidRequest(
                "prompt and segments can't be combined: each segment has a prompt of its own.",
                code="prompt_with_segments",
                param="prompt",
                suggestions=["Leave prompt out."],
            )
        first = segments[0] if isinstance(segments, list) and segments else None
        prompt = first.get("prompt", "") if isinstance(first, dict) else ""
        return data | {"segments": segments, "prompt": prompt}

    @field_validator("metadata")
    @classmethod
    def _storable_keys(cls, value: dict[str, str]) -> dict[str, str]:
        # A pattern of the keys would turn `additionalProperties` of the schema into `patternProperties`, which
        # generators of clients do not support.
        for key in value:
            if re.fullmatch(STORABLE, key) is None:
                raise ValueError(f"expected keys without NUL, got {key[:80]!r}")
        return value

    @field_validator("segments")
    @classmethod
    def _at_least_two(cls, value: list[SegmentField]) -> list[SegmentField]:
        if len(value) == 1:
            raise ValueError("expected 2 to 16 segments, got 1")
        return value

    @field_validator("loras")
    @classmethod
    def _each_once(cls, value: list[LoraField]) -> list[LoraField]:
        names = [lora.name for lora in value]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"expected each LoRA once, got {sorted(repeated)[0][:80]!r} more than once")
        return value

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        self.to_seeds()
        return self

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in OPTION_NAMES}

    def _lora_uses(self) -> tuple[LoraUse, ...]:
        """Returns `loras`, and `lora_path` unless it is among them."""
        loras = list(self.loras)
        if self.lora_path and self.lora_path not in {lora.name for lora in loras}:
            loras.append(LoraField(name=self.lora_path, strength=self.lora_strength))
        return tuple(lora.to_use() for lora in loras)

    def to_request(self) -> GenerationRequest:
        """Returns the request of the first job, without its inputs."""
        return GenerationRequest(
            prompt=self.prompt,
            model=self.model_type,
            resolution=self.resolution,
            aspect_ratio=self.aspect_ratio,
            seconds=self.seconds,
            preset=self.preset,
            loras=self._lora_uses(),
            segments=tuple(
                RequestedSegment(prompt=part.prompt, num_frames=part.num_frames, seed=part.seed)
                for part in self.segments
            ),
            joined=self.joined,
            **self._options() | {"seed": self.to_seeds()[0]},
        )

    def to_seeds(self) -> list[int | None]:
        """Returns the seed of each job that the request makes; None or -1 for a seed that is drawn.

        Raises:
            InvalidRequest: the fields for the seeds contradict each other.
        """
        return choose_seeds(
            seed=self._options()["seed"],
            seeds=self.seeds,
            num_outputs=self.num_outputs if "num_outputs" in self.model_fields_set else None,
            segment_seeds=[part.seed for part in self.segments],
        )

    def to_priority(self) -> Priority:
        """Returns the priority as the job queue orders it."""
        return Priority[self.priority.upper()]


class SubmitAnswer(BaseModel):
    """The stored job."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    task_id: str
    status: Literal["pending", "processing", "completed", "failed", "cancelled"]
    message: str
    estimated_time_minutes: float | None
    """Estimated time to generate the video, without waiting in the queue. For a batch, the time of one of its videos.
    Null while no similar job has run."""
    prompt_tokens_dropped: int | None
    """Tokens of the prompt beyond the model's limit of 512, which the model does not see. Null if the model's files are
    not on this machine yet: then the result says it."""
    batch_id: str | None
    """Id of the batch, if the request made several jobs. `task_id` is its first job. Null for one job."""
    task_ids: list[str] | None
    """Ids of all jobs of the batch, in the order of their seeds. Null for one job."""

    @classmethod
    def of(cls, jobs: Sequence[Job], *, estimated_seconds: float | None) -> "SubmitAnswer":
        """Describes the jobs of a request that were just stored."""
        job, params = jobs[0], jobs[0].params
        is_batch, dropped = job.batch_id is not None, params.prompt_tokens_dropped
        queued = ["Queued"]
        if is_batch:
            queued.append(f"{len(jobs)} jobs")
        if params.is_mock:
            queued.append("as mock jobs" if is_batch else "as a mock job")
        return cls(
            task_id=job.id,
            status=job.state.value,
            message=f"{' '.join(queued)}: {params.num_frames} frames at {params.width}x{params.height}."
            + (f" The model drops the last {dropped} tokens of the prompt: shorten it." if dropped else ""),
            estimated_time_minutes=None if estimated_seconds is None else round(estimated_seconds / 60, 3),
            prompt_tokens_dropped=dropped,
            batch_id=job.batch_id,
            task_ids=[each.id for each in jobs] if is_batch else None,
        )
