"""The API that OpenAI's clients speak: /v1/videos and /v1/models. What makes videos of videos is in remakes.py."""

import base64
import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from deployments.jobs.job import Job, JobState
from serve_app.api.bodies import Body, read_body
from serve_app.api.native import SUBMIT_SCHEMA, IdempotencyKey, describe_body, submit_body
from serve_app.api.outputs import output_file
from serve_app.api.services import Services, Serving
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import InvalidRequest, NotFound, Wan22Error

router = APIRouter(prefix="/v1", tags=["openai"])

_STATUS = {
    JobState.PENDING: "queued",
    JobState.PROCESSING: "in_progress",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "failed",
}
_THEIR_NAMES = {"model_type": "model", "resolution": "size"}
"""The native API's names of fields, and what they are called here."""
_REFERENCE_NAMES = {"image": "input_reference", "image_path": "input_reference"}
_POLL_MS = (250, 5000)
"""The shortest and the longest wait between two looks that a client is told."""


class VideoError(BaseModel):
    """Why there is no video."""

    code: str
    message: str


class Video(BaseModel):
    """A job, as OpenAI's clients read it."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None = None
    prompt: str
    remixed_from_video_id: str | None
    """The job whose video this one edits or extends, or whose parameters it has."""
    seconds: str
    size: str
    error: VideoError | None

    @classmethod
    def of(cls, job: Job) -> "Video":
        """Tells of a job."""
        params, error = job.params, None
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
            }
        )


class VideoList(BaseModel):
    """A page of jobs."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """The job and its video are gone."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "wan22-serve"
    model_type: str
    title: str
    image: str
    end_image: bool
    video: bool
    """Whether it makes a video anew."""
    presets: list[str]
    size: str
    sizes: list[str]
    num_frames: int
    max_frames: int
    fps: int
    steps: int

    @classmethod
    def of(cls, spec: ModelSpec) -> "Model":
        """Tells of a model and of what it takes."""
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
        )


class ModelList(BaseModel):
    """The models that are served."""

    object: Literal["list"] = "list"
    data: list[Model]


def describe_fields(
    own: Mapping[str, Any], *, required: Sequence[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """The documentation of a body with the fields of both APIs, but for those `without`, and its `own`."""
    theirs = {
        "model": {"type": "string", "description": "A model's id or type, in any case."},
        "seconds": {"type": "string", "description": "The length, in place of num_frames."},
        "size": {"type": "string", "description": "WIDTHxHEIGHT in pixels."},
    }
    properties = SUBMIT_SCHEMA["properties"] | theirs | dict(own)
    kept = {name: field for name, field in properties.items() if name not in without}
    return describe_body(SUBMIT_SCHEMA | {"properties": kept, "required": ["prompt", *required]})


@router.post(
    "/videos",
    openapi_extra=describe_fields(
        {
            "input_reference": {
                "type": "string",
                "format": "binary",
                "description": "The first frame: PNG, JPEG or WebP; or an mp4, to go on from its last frame.",
            }
        }
    ),
)
async def create_video(
    request: Request, response: Response, serving: Serving, idempotency_key: IdempotencyKey = None
) -> Video:
    """Takes a job in: `prompt`, `model`, `seconds`, `size`, `input_reference`, and every field of the native API."""
    body = await read_body(request)
    job = await run_in_threadpool(_submit, serving, body, idempotency_key)
    return tell(job, response)


def _submit(serving: Services, body: Body, idempotency_key: str | None) -> Job:
    fields, files = dict(body.fields), dict(body.files)
    reference = fields.pop("input_reference", None)
    if "input_reference" in files:
        files["image"] = files.pop("input_reference")
    elif reference:
        image = _read_reference(reference)
        if isinstance(image, bytes):
            files["image"] = image
        else:
            fields["image_path"] = image
    return submit_theirs(serving, Body(fields, files), idempotency_key, _REFERENCE_NAMES)


def submit_theirs(serving: Services, body: Body, idempotency_key: str | None, input_names: Mapping[str, str]) -> Job:
    """Submits a body whose fields are named as OpenAI names them.

    Args:
        serving: the services.
        body: its inputs are named as in the native API.
        idempotency_key: as the client sent it.
        input_names: what the client called the inputs: an error names its field so.

    Raises:
        Wan22Error: as `submit_body` does.
    """
    fields = dict(body.fields)
    for ours, theirs in _THEIR_NAMES.items():
        if theirs in fields:
            fields[ours] = fields.pop(theirs)
    seconds = _read_seconds(fields.pop("seconds", None))
    try:
        return submit_body(serving, Body(fields, body.files), idempotency_key, seconds=seconds)
    except Wan22Error as exc:
        exc.param = (_THEIR_NAMES | dict(input_names)).get(exc.param or "", exc.param)
        raise


def _read_seconds(value: Any) -> float | None:
    if value in (None, ""):
        return None
    try:
        seconds = float(value) if isinstance(value, str | int | float) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds < 3600:
        raise InvalidRequest(
            f"seconds is {str(value)[:40]!r}: expected a number above 0.", code="invalid_seconds", param="seconds"
        )
    return seconds


def _read_reference(reference: Any) -> bytes | str:
    """What an `input_reference` object brings: an image in a `data:` URL, or the id of an upload."""
    if isinstance(reference, dict) and isinstance(file_id := reference.get("file_id"), str):
        return file_id
    if isinstance(reference, dict) and isinstance(url := reference.get("image_url"), str):
        head, comma, data = url.partition(",")
        if comma and head.startswith("data:") and head.endswith(";base64"):
            with contextlib.suppress(ValueError):
                return base64.b64decode(data, validate=True)
    raise InvalidRequest(
        "input_reference must be a file, or an object with the file_id of an upload or with an image_url that is a "
        "data: URL in base64; this service fetches nothing from elsewhere.",
        code="invalid_input_reference",
        param="input_reference",
        suggestions=["Send the image as a file in multipart/form-data."],
    )


@router.get("/videos")
def list_videos(
    serving: Serving,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> VideoList:
    """Lists jobs."""
    found = serving.store.reader.page(after=after, limit=limit + 1, newest_first=order == "desc")
    page = found[:limit]
    return VideoList(
        data=[Video.of(job) for job in page],
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(found) > limit,
    )


@router.get("/videos/{video_id}")
def read_video(video_id: str, response: Response, serving: Serving) -> Video:
    """Reads one job."""
    return tell(serving.store.reader.get(video_id), response)


@router.delete("/videos/{video_id}")
def delete_video(video_id: str, serving: Serving) -> VideoDeleted:
    """Deletes a job and its video; a running one is stopped."""
    serving.jobs.delete(video_id)
    return VideoDeleted(id=video_id)


@router.get("/videos/{video_id}/content", response_class=FileResponse)
@router.head("/videos/{video_id}/content", include_in_schema=False)
def read_content(
    video_id: str,
    request: Request,
    serving: Serving,
    variant: Literal["video", "thumbnail", "spritesheet"] = "video",
) -> Response:
    """The mp4 or its thumbnail, or a range of it."""
    if variant == "spritesheet":
        raise InvalidRequest(
            "This service makes no spritesheets.",
            code="variant_not_available",
            param="variant",
            suggestions=["Use variant=video or variant=thumbnail."],
        )
    return output_file(serving, request, video_id, variant)


@router.get("/models")
def list_models(serving: Serving) -> ModelList:
    """Lists the models that are served."""
    return ModelList(data=[Model.of(spec) for spec in serving.served])


@router.get("/models/{model_id}")
def read_model(model_id: str, serving: Serving) -> Model:
    """Reads one of them."""
    for spec in serving.served:
        if spec.id == model_id:
            return Model.of(spec)
    raise NotFound(f"There is no model {model_id[:80]!r} here.", code="model_not_found", param="model")


def tell(job: Job, response: Response) -> Video:
    """The job, and when it is worth looking again: a quarter of what is left, as far as that is known."""
    if not job.state.ended:
        shortest, longest = _POLL_MS
        milliseconds = shortest if job.eta_seconds is None else int(job.eta_seconds * 250)
        response.headers["openai-poll-after-ms"] = str(min(max(milliseconds, shortest), longest))
    return Video.of(job)
