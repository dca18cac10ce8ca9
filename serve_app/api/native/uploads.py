"""The native API's routes for uploads."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from serve_app.api.access.callers import Reading, Submitting
from serve_app.api.files import describe_file, input_file
from serve_app.api.http.bodies import check_names, read_body
from serve_app.api.schemas.uploads import Upload
from serve_app.api.services import Serving
from serve_app.api.submission import describe_form
from wan22_bridge.errors import InvalidRequest

router = APIRouter(prefix="/api/v1", tags=["uploads"])

_UPLOAD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary", "description": "PNG, JPEG, WebP or mp4."}},
}


@router.post("/uploads", openapi_extra=describe_form(_UPLOAD_SCHEMA))
async def upload_file(request: Request, serving: Serving, caller: Submitting) -> Upload:
    """Stores an image or a video for later requests. An upload that no job uses is removed, after a day by default."""
    body = await read_body(request)
    check_names([*body.fields, *body.files], _UPLOAD_SCHEMA["properties"])
    data = body.files.get("file")
    if data is None:
        raise InvalidRequest(
            "The request has no file.",
            code="file_required",
            param="file",
            suggestions=["Send the image or video as file in multipart/form-data."],
        )
    upload = await serving.use_decoders(serving.jobs.upload, data, owner=caller.owner, account=caller.account)
    return Upload.of(upload, size_bytes=len(data))


@router.get(
    "/uploads/{upload_id}",
    response_class=FileResponse,
    responses=describe_file("image/png", "image/jpeg", "image/webp", "video/mp4"),
)
async def read_upload(upload_id: str, request: Request, serving: Serving, caller: Reading) -> Response:
    """Returns the image or the video of an upload, or a range of it.

    A job names its inputs by the same ids, also those that came with its request.
    """
    return await serving.use_storage(input_file, serving, caller, request, upload_id)
