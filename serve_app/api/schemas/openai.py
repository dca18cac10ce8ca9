"""Bodies of the OpenAI-compatible API's responses."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from deployments.jobs.job import Job, JobState
from serve_app.api.schemas.links import dropped_tokens
from serve_app.api.schemas.texts import WEBHOOK_URL, Prompt
from wan22_bridge.catalogue import ImageInput, ModelSpec, Preset

_STATUS = {
    JobState.PENDING: "queued",
    JobState.PROCESSING: "in_progress",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "failed",
}


def _is_none(value: object) -> bool:
    return value is None


class VideoError(BaseModel):
    """Reason why a job has no video."""

    code: str
    message: str


class Video(BaseModel):
    """A job of the OpenAI-compatible API."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    """Status of the job; a cancelled job is `failed`, with the error code `cancelled`."""
    progress: int
    """Progress of the whole job in percent."""
    created_at: int
    """Seconds since the epoch."""
    completed_at: int | None
    """Seconds since the epoch."""
    expires_at: int | None = None
    """Always null: videos do not expire."""
    prompt: str
    remixed_from_video_id: str | None
    """Id of the job whose video this job edits or extends, or whose parameters it uses."""
    seconds: str
    """Length of the video."""
    size: str
    """WIDTHxHEIGHT in pixels."""
    error: VideoError | None
    prompt_tokens_dropped: int | None
    """Tokens of the prompt beyond the model's limit of 512, which the model does not see. Null if unknown."""
    peak_memory_mb: float
    """Peak GPU memory of a completed job, in megabytes of 10^6 bytes; 0 before that, and on a CPU."""
    stage_durations: dict[str, float]
    """Seconds of each stage of a completed job."""
    inference_time_s: float | None
    """Seconds in which a completed job was generated, without waiting in the queue."""
    is_mock: bool
    """Whether the video is a placeholder that no model generates, and that says so in its picture."""
    batch_id: str | None = Field(default=None, exclude_if=_is_none)
    """Id of the batch, if the job's request made several jobs. Left out for other jobs."""

    @classmethod
    def of(cls, job: Job, **further: Any) -> Self:
        """Describes a job.

        Args:
            job: the job.
            **further: fields that a subclass adds.
        """
        params, result, error = job.params, job.result or {}, None
        if job.state is JobState.CANCELLED:
            error = VideoError(code="cancelled", message="The job was cancelled.")
        elif job.error is not None:
            error = VideoError(code=job.error["code"], message=job.error["message"])
        return cls.model_validate(
            {
                "id": job.id,
                "model": params.model,
                "status": _STATUS[job.state],
                "progress": 0 if job.state is JobState.PENDING else int(job.progress),
                "created_at": int(job.created_at),
                "completed_at": int(job.completed_at) if job.state is JobState.COMPLETED and job.completed_at else None,
                "prompt": params.prompt,
                "remixed_from_video_id": job.source_job_id,
                "seconds": f"{round((params.num_frames - 1) / params.fps, 3):g}",
                "size": f"{params.width}x{params.height}",
                "error": error,
                "prompt_tokens_dropped": dropped_tokens(job),
                "peak_memory_mb": result.get("peak_vram_usage_mb", 0.0),
                "stage_durations": result.get("timings", {}),
                "inference_time_s": result.get("generation_time_seconds"),
                "is_mock": params.is_mock,
                "batch_id": job.batch_id,
                **further,
            }
        )


class NewVideo(Video):
    """A job that was just submitted. If the request made several jobs, this is the first of them."""

    video_ids: list[str] | None = Field(default=None, exclude_if=_is_none)
    """Ids of all jobs of the batch, in the order of their seeds. Left out if the request made one job."""


class VideoList(BaseModel):
    """A page of jobs."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    """Id of the page's first job; null if the page is empty."""
    last_id: str | None
    """Id of the page's last job, which `after` takes to read the next page; null if the page is empty."""
    has_more: bool
    """Whether more jobs follow after this page."""


class VideoDeleted(BaseModel):
    """Confirmation that a job and its video were deleted."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class PresetValues(BaseModel):
    """Defaults that a preset changes. Null stands for the model's own default."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    steps: int | None
    guidance_scale: float | None
    guidance_scale_2: float | None
    flow_shift: float | None
    negative_prompt: str | None
    loras: list[str]
    """LoRAs that the preset adds at full strength."""

    @classmethod
    def of(cls, preset: Preset) -> "PresetValues":
        """Describes a preset."""
        return cls(
            steps=preset.steps,
            guidance_scale=preset.guidance_scale,
            guidance_scale_2=preset.guidance_scale_2,
            flow_shift=preset.flow_shift,
            negative_prompt=preset.negative_prompt,
            loras=list(preset.loras),
        )


class Model(BaseModel):
    """A served model, with its defaults and its limits."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "wan22-serve"
    model_type: str
    title: str
    """Name of the model for people."""
    image: str
    """Whether the model accepts an image as first frame: `none`, `optional` or `required`."""
    end_image: bool
    """Whether the model accepts an image as last frame."""
    video: bool
    """Whether the model supports video-to-video."""
    presets: list[str]
    """Names of the model's presets."""
    size: str
    """Default size, WIDTHxHEIGHT in pixels."""
    sizes: list[str]
    """Sizes that suit the model, WIDTHxHEIGHT in pixels."""
    num_frames: int
    """Default number of frames."""
    max_frames: int
    """Maximum number of frames."""
    fps: int
    """Default frames per second."""
    steps: int
    """Default number of denoising steps."""
    size_multiple: int
    """Number that divides every width and height; other sizes are rounded down."""
    max_pixels: int
    """Maximum number of pixels of a frame."""
    guidance_scale: float
    """Default guidance scale of the high-noise expert, or of the model's only expert."""
    guidance_scale_2: float | None
    """Default guidance scale of the low-noise expert; null for a model with one expert."""
    flow_shift: float
    """Default flow shift."""
    negative_prompt: str
    """Default negative prompt."""
    preset_values: dict[str, PresetValues]
    """Defaults that each preset changes."""
    examples: list[str]
    """Prompts that suit the model, for people who try it."""

    @classmethod
    def of(cls, spec: ModelSpec) -> "Model":
        """Describes a served model."""
        return cls(
            id=spec.id,
            model_type=spec.type.value,
            title=spec.title,
            image=spec.image.value,
            end_image=spec.end_image,
            video=spec.video,
            presets=list(spec.presets),
            size=f"{spec.size[0]}x{spec.size[1]}",
            sizes=[f"{width}x{height}" for width, height in spec.sizes],
            num_frames=spec.num_frames,
            max_frames=spec.max_frames,
            fps=spec.fps,
            steps=spec.steps,
            size_multiple=spec.size_multiple,
            max_pixels=spec.max_pixels,
            guidance_scale=spec.guidance_scale,
            guidance_scale_2=spec.guidance_scale_2,
            flow_shift=spec.flow_shift,
            negative_prompt=spec.negative_prompt,
            preset_values={name: PresetValues.of(preset) for name, preset in spec.presets.items()},
            examples=list(spec.examples),
        )


class ModelInfo(BaseModel):
    """The default model, as SGLang's clients ask for it."""

    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())

    model_path: str
    """The model's repository on the hub; a built-in model, and one of a folder, has its id here."""
    model_id: str
    model_type: str
    tokenizer_path: str
    """The same as `model_path`."""
    is_generation: Literal[True] = True
    task_type: Literal["text-to-video", "image-to-video"]
    models: list[str]
    """Ids of all served models."""

    @classmethod
    def of(cls, served: Sequence[ModelSpec]) -> "ModelInfo":
        """Describes the first served model."""
        spec = served[0]
        path = spec.source_ref if spec.is_fetched else spec.id
        return cls(
            model_path=path,
            model_id=spec.id,
            model_type=spec.type.value,
            tokenizer_path=path,
            task_type="image-to-video" if spec.image is ImageInput.REQUIRED else "text-to-video",
            models=[spec.id for spec in served],
        )


class ModelList(BaseModel):
    """The served models."""

    object: Literal["list"] = "list"
    data: list[Model]


class Remix(BaseModel):
    """A new prompt for a completed video."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    prompt: Prompt
    """Text that describes the video, 1 to 2000 characters."""
    webhook_url: str | None = WEBHOOK_URL
    """Receiver of a signed POST request at the end of the job, as for a new video."""
