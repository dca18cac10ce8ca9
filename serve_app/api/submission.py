"""Submission of a request's body: the part of the API that the native and the OpenAI-compatible routes share."""

from typing import Annotated, Any

from fastapi import Header
from pydantic import ValidationError

from deployments.jobs.job import Job
from serve_app.api.http.bodies import Body
from serve_app.api.http.errors import invalid_fields
from serve_app.api.schemas.submissions import SubmitRequest
from serve_app.api.services import Services
from wan22_bridge.errors import InvalidRequest

SUBMIT_SCHEMA = SubmitRequest.model_json_schema()
SUBMIT_FILES = {
    name: {"type": "string", "format": "binary", "description": description}
    for name, description in {
        "image": "First frame: PNG, JPEG or WebP. With an mp4, the new video continues that video from its last frame.",
        "end_image": "Last frame: PNG, JPEG or WebP.",
        "video": "Input of video-to-video, an mp4. T2V-A14B and TI2V-5B support it.",
    }.items()
}


def describe_body(form: dict[str, Any], json: dict[str, Any] | None = None) -> dict[str, Any]:
    """Returns the OpenAPI description of a body that the route reads itself.

    Args:
        form: the JSON schema of a form.
        json: the JSON schema of a JSON body; by default the same as `form`.
    """
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": json or form}}
    return {"requestBody": {"required": True, "content": content}}


IdempotencyKey = Annotated[str | None, Header(max_length=255)]


def submit_body(serving: Services, body: Body, idempotency_key: str | None, *, seconds: float | None = None) -> Job:
    """Submits a body with the native API's fields and files.

    Args:
        serving: the services.
        body: the fields and files.
        idempotency_key: the header's value; None or empty if there is none.
        seconds: the video's length, used if the body has no `num_frames`.

    Raises:
        InvalidRequest: a field is not valid; the error names it.
        JobNotFound: an input names a job that does not exist.
        Conflict: an input names a job that has no video yet.
        NotFound: an input names a job that ended without a video.
        IdempotencyConflict: the idempotency key was used with another request.
    """
    for name in body.files:
        if name not in SUBMIT_FILES:
            raise InvalidRequest(
                f"Unknown file field {name[:80]!r}: expected {', '.join(SUBMIT_FILES)}.",
                code="unknown_field",
                param=name,
                suggestions=["Send the first frame as image, the last frame as end_image, or a video as video."],
            )
    try:
        submitted = SubmitRequest.model_validate(body.fields)
    except ValidationError as exc:
        raise invalid_fields(exc) from exc
    return serving.jobs.submit(
        submitted.to_request(seconds=seconds),
        image=body.files.get("image", submitted.image_path),
        end_image=body.files.get("end_image", submitted.end_image_path),
        video=body.files.get("video", submitted.video_path),
        priority=submitted.to_priority(),
        metadata=submitted.metadata,
        idempotency_key=idempotency_key or None,
        body=submitted.model_dump(mode="json", exclude_defaults=True),
    )
