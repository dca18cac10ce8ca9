"""The OpenAI-compatible API's routes that use an earlier video: edits, extensions and remixes."""

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from deployments.jobs.job import Job
from serve_app.api.access.callers import Caller, Submitting
from serve_app.api.fields.texts import is_nothing, prune
from serve_app.api.http.bodies import Body, read_body
from serve_app.api.http.errors import invalid_fields
from serve_app.api.openai.bodies import describe_fields, submit_openai_body
from serve_app.api.openai.videos import describe_job, describe_new_jobs
from serve_app.api.schemas.openai import NewVideo, Remix, Video
from serve_app.api.services import Services, Serving
from serve_app.api.submission import IdempotencyKey, describe_body, run_submission
from wan22_bridge.errors import InvalidRequest, NotFound
from wan22_bridge.media.videos import require_video

router = APIRouter(prefix="/v1/videos", tags=["openai"])

_EDITED, _EXTENDED = "video", "image"
"""The native API's fields for the `video` of these routes: as input of video-to-video, and of video continuation."""
_NOT_ACCEPTED = ("image", "image_path", "input_reference", "video_path")
"""Fields that would give another input than `video`."""


def _describe(purpose: str) -> dict[str, object]:
    """Returns the OpenAPI description of a body with a `video`."""
    reference = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
    file = {"type": "string", "format": "binary"}
    video = {"anyOf": [file, reference], "description": f"{purpose}: an mp4, or the id of a completed job."}
    return describe_fields({"video": video}, required=["video"], without=_NOT_ACCEPTED)


@router.post("/edits", openapi_extra=_describe("Input of video-to-video"))
async def edit_video(
    request: Request, response: Response, serving: Serving, caller: Submitting, idempotency_key: IdempotencyKey
) -> NewVideo:
    """Submits a video-to-video job for `video` and `prompt`, with every other field of the native API.

    `strength` sets how much of the video is changed.
    """
    body = await read_body(request)
    jobs = await run_submission(_submit, serving, caller, body, idempotency_key, _EDITED)
    return describe_new_jobs(jobs, response)


@router.post("/extensions", openapi_extra=_describe("Video to continue"))
async def extend_video(
    request: Request, response: Response, serving: Serving, caller: Submitting, idempotency_key: IdempotencyKey
) -> NewVideo:
    """Submits a job that continues `video` from its last frame for `seconds`.

    The new video begins with the input. With `joined=false`, it holds the continuation only. `seconds` is the length of
    the continuation; the job reports the length of the new video.
    """
    body = await read_body(request)
    jobs = await run_submission(_submit, serving, caller, body, idempotency_key, _EXTENDED)
    return describe_new_jobs(jobs, response)


def _submit(serving: Services, caller: Caller, body: Body, idempotency_key: str | None, name: str) -> list[Job]:
    """Submits a body whose `video` is the native API's field `name`."""
    fields, files = dict(body.fields), dict(body.files)
    for other in _NOT_ACCEPTED:
        if other in fields or other in files:
            raise InvalidRequest(
                f"This route does not accept the field {other!r}.",
                code="unknown_field",
                param=other,
                suggestions=["Send the video as video, or the id of its job as video[id]."],
            )
    if name == _EXTENDED and fields.get("joined") in (None, ""):
        fields["joined"] = True
    reference = fields.pop("video", None)
    if "video" in files:
        require_video(files["video"], param="video")
        files[name] = files.pop("video")
    else:
        fields[f"{name}_path"] = _read_reference(serving, caller, reference)
    names = {name: "video", f"{name}_path": "video"}
    return submit_openai_body(serving, caller, Body(fields, files), idempotency_key, names)


def _read_reference(serving: Services, caller: Caller, reference: object) -> str:
    """Returns the id of the job whose video a `video` object names."""
    if reference is None:
        raise InvalidRequest(
            "The request has no video.",
            code="video_required",
            param="video",
            suggestions=["Send an mp4 as video, or the id of a completed job as video[id]."],
        )
    video_id = reference.get("id") if isinstance(reference, dict) else None
    if not isinstance(video_id, str):
        raise InvalidRequest(
            "video must be a file, or an object with the id of a completed job.",
            code="invalid_video_reference",
            param="video",
            suggestions=["Send the video as a file in multipart/form-data, or the id of its job as video[id]."],
        )
    try:
        return serving.store.reader.get(video_id, owner=caller.only).id
    except NotFound as exc:
        exc.param = "video"
        raise


@router.post("/{video_id}/remix", openapi_extra=describe_body(Remix.model_json_schema()))
async def remix_video(
    video_id: str,
    request: Request,
    response: Response,
    serving: Serving,
    caller: Submitting,
    idempotency_key: IdempotencyKey,
) -> Video:
    """Submits a job with another prompt, and the seed, the inputs and the parameters of a completed job."""
    body = await read_body(request)
    try:
        remix = Remix.model_validate(prune(body.fields) | body.files)
    except ValidationError as exc:
        raise invalid_fields(exc) from exc
    job = await serving.use_storage(
        serving.jobs.remix,
        video_id,
        remix.prompt,
        webhook_url=None if is_nothing(remix.webhook_url) else remix.webhook_url,
        idempotency_key=idempotency_key,
        owner=caller.owner,
        only=caller.only,
        account=caller.account,
    )
    return describe_job(job, response)
