"""The API that OpenAI's clients speak, as far as it makes videos of videos: edits, extensions and remixes."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool

from deployments.jobs.job import Job
from serve_app.api.bodies import Body, read_body
from serve_app.api.errors import invalid_fields
from serve_app.api.native import IdempotencyKey, describe_body
from serve_app.api.openai import Video, describe_fields, submit_theirs, tell
from serve_app.api.services import Services, Serving
from wan22_bridge.errors import InvalidRequest, NotFound
from wan22_bridge.media.videos import require_video

router = APIRouter(prefix="/v1/videos", tags=["openai"])

_EDITED, _EXTENDED = "video", "image"
"""The native API's names of what is called `video` here: the first is made anew, the second continued."""
_NOT_HERE = ("image", "image_path", "input_reference", "video_path")
"""Fields that would bring another input than `video`."""


def _describe(what: str) -> dict[str, object]:
    """The documentation of a body with a `video`."""
    reference = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
    file = {"type": "string", "format": "binary"}
    video = {"anyOf": [file, reference], "description": f"{what}: an mp4, or an earlier job by id."}
    return describe_fields({"video": video}, required=["video"], without=_NOT_HERE)


@router.post("/edits", openapi_extra=_describe("The video to make anew"))
async def edit_video(
    request: Request, response: Response, serving: Serving, idempotency_key: IdempotencyKey = None
) -> Video:
    """Makes a video anew from `video` and `prompt`; `strength` says how much. Takes every field of the native API."""
    body = await read_body(request)
    return tell(await run_in_threadpool(_submit, serving, body, idempotency_key, _EDITED), response)


@router.post("/extensions", openapi_extra=_describe("The video to go on from"))
async def extend_video(
    request: Request, response: Response, serving: Serving, idempotency_key: IdempotencyKey = None
) -> Video:
    """Goes on from the last frame of `video` for `seconds`: the video that is made is what comes after it, alone."""
    body = await read_body(request)
    return tell(await run_in_threadpool(_submit, serving, body, idempotency_key, _EXTENDED), response)


def _submit(serving: Services, body: Body, idempotency_key: str | None, name: str) -> Job:
    """Submits a body whose `video` is called `name` in the native API."""
    fields, files = dict(body.fields), dict(body.files)
    for other in _NOT_HERE:
        if other in fields or other in files:
            raise InvalidRequest(
                f"There is no field {other!r} here.",
                code="unknown_field",
                param=other,
                suggestions=["Send the video as video, or its id as video[id]."],
            )
    reference = fields.pop("video", None)
    if "video" in files:
        require_video(files["video"], param="video")
        files[name] = files.pop("video")
    else:
        fields[f"{name}_path"] = _read_reference(serving, reference)
    names = {name: "video", f"{name}_path": "video"}
    return submit_theirs(serving, Body(fields, files), idempotency_key, names)


def _read_reference(serving: Services, reference: object) -> str:
    """The id of the job whose video is meant."""
    if reference is None:
        raise InvalidRequest(
            "No video was sent.",
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
            suggestions=["Send the video as a file in multipart/form-data, or its id as video[id]."],
        )
    try:
        return serving.store.reader.get(video_id).id
    except NotFound as exc:
        exc.param = "video"
        raise


class Remix(BaseModel):
    """What is to be otherwise."""

    model_config = ConfigDict(extra="forbid")

    prompt: str


@router.post("/{video_id}/remix", openapi_extra=describe_body(Remix.model_json_schema()))
async def remix_video(
    video_id: str, request: Request, response: Response, serving: Serving, idempotency_key: IdempotencyKey = None
) -> Video:
    """Makes a completed video again with another prompt: same seed, inputs and parameters."""
    body = await read_body(request)
    try:
        remix = Remix.model_validate(body.fields | body.files)
    except ValidationError as exc:
        raise invalid_fields(exc) from exc
    job = await run_in_threadpool(serving.jobs.remix, video_id, remix.prompt, idempotency_key=idempotency_key or None)
    return tell(job, response)
