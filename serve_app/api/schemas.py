"""What the API takes and gives, field by field."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from deployments.jobs.job import Job, JobState, Priority
from wan22_bridge.requests import AUTO, DEFAULT_STRENGTH, GenerationRequest, InputImage, InputVideo
from wan22_bridge.types import LoraUse, SchedulerName, StepCache

_MAX_SEED = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""


class LoraField(BaseModel):
    """A LoRA that a video is made with."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: str
    strength: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    """On the high-noise expert, or the only one."""
    strength_2: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    """On the low-noise expert; by default as `strength`."""


class SubmitRequest(BaseModel):
    """A video to make. What is left out is the model's own default."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, use_attribute_docstrings=True)

    prompt: str
    """What to show, 1 to 2000 characters."""
    model_type: str = Field(default=AUTO, validation_alias=AliasChoices("model_type", "modelType"))
    """A model's id or type, in any case; `auto` takes image-to-video where there is an image."""
    resolution: str | None = None
    """WIDTHxHEIGHT in pixels, snapped down to the model's multiple. By default the model's own, in the shape of an
    image or video that was sent; what continues a video has that video's size, where it is no larger."""
    steps: int | None = Field(default=None, ge=1, le=100)
    num_frames: int | None = Field(default=None, ge=1)
    """Snapped down to 4k+1. Of a video that is made anew, its first ones; by default all that the model takes."""
    fps: int | None = Field(default=None, ge=1, le=120)
    """By default the model's own, or that of the video that is made anew or continued."""
    guidance_scale: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    """Of the high-noise expert, or the only one; 1 or less switches guidance off."""
    guidance_scale_2: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    """Of the low-noise expert."""
    flow_shift: float | None = Field(default=None, ge=0.01, le=100, allow_inf_nan=False)
    scheduler: SchedulerName = SchedulerName.UNIPC
    """The sampler; the official one is UniPC."""
    step_cache: StepCache = StepCache.NONE
    """Lets one step stand in for the next: faster, and not the very same video."""
    preset: str | None = None
    """Other defaults of the model, by name, such as `lightning`; `GET /v1/models` lists them."""
    negative_prompt: str | None = None
    seed: int | None = Field(default=None, ge=-1, le=_MAX_SEED)
    """-1 or none: one is drawn, and told."""
    image_path: str | None = None
    """The first frame: the id of an upload. Where that is a video, or with the id of a completed job, the video is
    continued from its last frame."""
    end_image_path: str | None = None
    """The last frame: the id of an upload."""
    video_path: str | None = None
    """A video to make anew: the id of an upload or of a completed job."""
    strength: float | None = Field(
        default=None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description=(
            "How much of the video is made anew: the share of the steps that are run. "
            f"{DEFAULT_STRENGTH:g} by default, which keeps its composition and coarse movement; less keeps more of it, "
            "1 nothing. The flow shift counts too: at the A14B's 12, 0.5 begins with 92 % of noise, as diffusers' own "
            "0.8 does at a shift of 3."
        ),
    )
    lora_path: str = ""
    """The name of a LoRA that the server knows; empty is none."""
    lora_strength: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    loras: list[LoraField] = Field(default=[], max_length=8)
    """Several at once, each with its strength; a LoRA is known to the server by its name."""
    quantization_level: Literal["auto", "none"] = "auto"
    """The precision that the model is served with is the only one yet."""
    enable_offload: bool | None = None
    """A hint; the result says whether anything was offloaded."""
    vae_tile_size: int | None = Field(default=None, ge=128, le=512)
    """A hint; the result says what was optimised."""
    max_vram_usage_gb: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """A hint; the result says how much was used."""
    priority: Literal["low", "normal", "high"] = "normal"
    metadata: dict[
        Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]
    ] = Field(default={}, max_length=16)
    """The client's own pairs, given back with the job."""

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any, info: Any) -> Any:
        """An empty field of a form means that it was not filled in."""
        if value == "" and info.field_name not in ("prompt", "negative_prompt", "lora_path"):
            return cls.model_fields[info.field_name].get_default(call_default_factory=True)
        return value

    @field_validator("loras")
    @classmethod
    def _each_once(cls, value: list[LoraField]) -> list[LoraField]:
        names = [lora.name for lora in value]
        if len(set(names)) < len(names):
            raise ValueError("a LoRA is named twice")
        return value

    def _lora_uses(self) -> tuple[LoraUse, ...]:
        """`loras`, and `lora_path` as one more."""
        uses = [
            LoraUse(
                name=lora.name,
                high_noise_strength=lora.strength,
                low_noise_strength=lora.strength if lora.strength_2 is None else lora.strength_2,
            )
            for lora in self.loras
        ]
        if self.lora_path and self.lora_path not in {use.name for use in uses}:
            strength = self.lora_strength
            uses.append(LoraUse(name=self.lora_path, high_noise_strength=strength, low_noise_strength=strength))
        return tuple(uses)

    def to_request(self, *, seconds: float | None = None) -> GenerationRequest:
        """The request without its inputs; `seconds` is a length in place of `num_frames`."""
        return GenerationRequest(
            seconds=seconds,
            prompt=self.prompt,
            model=self.model_type,
            resolution=self.resolution,
            num_frames=self.num_frames,
            fps=self.fps,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            guidance_scale_2=self.guidance_scale_2,
            flow_shift=self.flow_shift,
            scheduler=self.scheduler,
            step_cache=self.step_cache,
            loras=self._lora_uses(),
            preset=self.preset,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            strength=self.strength,
        )

    def to_priority(self) -> Priority:
        """As the queue orders it."""
        return Priority[self.priority.upper()]


class SubmitAnswer(BaseModel):
    """The job was taken in."""

    task_id: str
    status: Literal["pending", "processing", "completed", "failed", "cancelled"]
    message: str
    estimated_time_minutes: float | None


class TaskInfo(BaseModel):
    """A job, as the native API tells it."""

    id: str
    model_type: str
    model: str
    prompt: str
    negative_prompt: str
    image_path: str | None
    end_image_path: str | None
    video_path: str | None
    strength: float | None
    """With a video: how much of it is made anew."""
    source_task_id: str | None
    """The job whose video this one makes anew or continues, or whose parameters it has; that job may be gone."""
    resolution: str
    steps: int
    lora_path: str | None
    lora_strength: float
    loras: list[LoraField]
    status: Literal["pending", "processing", "completed", "failed", "cancelled"]
    stage: str
    progress: float
    current_step: int
    total_steps: int
    eta_seconds: float | None
    estimated_time_minutes: float | None
    queue_position: int | None
    cancel_requested: bool
    attempt: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    output_path: str | None
    error_message: str | None
    error: dict[str, Any] | None
    result: dict[str, Any] | None
    seed: int
    num_frames: int
    fps: int
    width: int
    height: int
    guidance_scale: float
    guidance_scale_2: float | None
    flow_shift: float
    scheduler: str
    step_cache: str
    metadata: dict[str, str]

    @classmethod
    def of(cls, job: Job, *, queue_position: int | None = None) -> "TaskInfo":
        """Tells of a job."""
        params = job.params
        result = None
        if job.result is not None:
            result = {"task_id": job.id, "output_path": video_url(job.id)} | job.result
        return cls(
            id=job.id,
            model_type=params.model_type.value,
            model=params.model,
            prompt=params.prompt,
            negative_prompt=params.negative_prompt,
            image_path=upload_id(params.image),
            end_image_path=upload_id(params.end_image),
            video_path=upload_id(params.video),
            strength=params.strength if params.video else None,
            source_task_id=job.source_job_id,
            resolution=f"{params.width}x{params.height}",
            steps=params.steps,
            lora_path=params.loras[0].name if params.loras else None,
            lora_strength=params.loras[0].high_noise_strength if params.loras else 1.0,
            loras=[
                LoraField(name=use.name, strength=use.high_noise_strength, strength_2=use.low_noise_strength)
                for use in params.loras
            ],
            status=job.state.value,
            stage=job.stage,
            progress=job.progress,
            current_step=job.current_step,
            total_steps=job.total_steps,
            eta_seconds=job.eta_seconds,
            estimated_time_minutes=None if job.eta_seconds is None else round(job.eta_seconds / 60, 3),
            queue_position=queue_position,
            cancel_requested=job.cancel_requested,
            attempt=job.attempt,
            created_at=moment(job.created_at),
            started_at=moment(job.started_at),
            completed_at=moment(job.completed_at),
            output_path=video_url(job.id) if job.state is JobState.COMPLETED else None,
            error_message=job.error["message"] if job.error else None,
            error=job.error,
            result=result,
            seed=params.seed,
            num_frames=params.num_frames,
            fps=params.fps,
            width=params.width,
            height=params.height,
            guidance_scale=params.guidance_scale,
            guidance_scale_2=params.guidance_scale_2,
            flow_shift=params.flow_shift,
            scheduler=params.scheduler.value,
            step_cache=params.step_cache.value,
            metadata=job.metadata,
        )


class QueueAnswer(BaseModel):
    """The queue: how many jobs there are, and a page of them, newest first."""

    total_tasks: int
    pending_tasks: int
    processing_tasks: int
    completed_tasks: int
    failed_tasks: int
    cancelled_tasks: int
    current_task: TaskInfo | None
    tasks: list[TaskInfo]
    queue: list[TaskInfo]


class Upload(BaseModel):
    """An image or a video that was kept for later requests."""

    id: str
    kind: Literal["image", "video"]
    width: int
    height: int
    size_bytes: int
    num_frames: int | None
    """Of a video."""
    fps: float | None
    """Of a video that tells it."""

    @classmethod
    def of(cls, found: InputImage | InputVideo, *, size_bytes: int) -> "Upload":
        """Tells of what was found in the file."""
        video = found if isinstance(found, InputVideo) else None
        return cls(
            id=upload_id(found.key) or "",
            kind="video" if video else "image",
            width=found.width,
            height=found.height,
            size_bytes=size_bytes,
            num_frames=video and video.num_frames,
            fps=(round(video.fps, 3) or None) if video else None,
        )


class ReorderRequest(BaseModel):
    """Which of the pending jobs go before which."""

    model_config = ConfigDict(extra="forbid")

    task_ids: list[str] = Field(min_length=1, max_length=1000)


class Message(BaseModel):
    """It was done."""

    message: str


class VideoMetadata(BaseModel):
    """A video that is there."""

    id: str
    filename: str
    file_path: str
    thumbnail_path: str
    prompt: str
    model_type: str
    resolution: str
    duration_seconds: float
    file_size_mb: float
    created_at: datetime
    generation_time_minutes: float
    width: int
    height: int
    fps: int
    num_frames: int
    seed: int
    parameters: dict[str, Any]

    @classmethod
    def of(cls, job: Job) -> "VideoMetadata":
        """Tells of a completed job's video."""
        params = job.params
        assert job.output is not None
        assert job.result is not None
        return cls(
            id=job.id,
            filename=filename(job),
            file_path=video_url(job.id),
            thumbnail_path=f"/api/v1/outputs/{job.id}/thumbnail",
            prompt=params.prompt,
            model_type=params.model_type.value,
            resolution=f"{params.width}x{params.height}",
            duration_seconds=round(params.num_frames / params.fps, 3),
            file_size_mb=round(job.output["file_size_bytes"] / 1e6, 3),
            created_at=moment(job.completed_at) or moment(job.created_at),
            generation_time_minutes=round(job.result["generation_time_seconds"] / 60, 4),
            width=params.width,
            height=params.height,
            fps=params.fps,
            num_frames=params.num_frames,
            seed=params.seed,
            parameters=job.result["parameters_used"],
        )


class OutputsAnswer(BaseModel):
    """The videos that are there, newest first."""

    videos: list[VideoMetadata]
    total_count: int
    total_size_mb: float


def moment(seconds: float | None) -> Any:
    """Seconds since the epoch as a time with its zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def video_url(job_id: str) -> str:
    """Where a client finds the video."""
    return f"/api/v1/outputs/{job_id}/video"


def filename(job: Job) -> str:
    """What a download of the job's video is called."""
    return f"{job.id}.mp4"


def upload_id(key: str | None) -> str | None:
    """The id by which a client may name an input again."""
    return key.rpartition("/")[2] if key else None
