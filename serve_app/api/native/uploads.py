"""The native API's route for uploads."""

from typing import Any

from fastapi import APIRouter, Request

from serve_app.api.access.callers import Submitting
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
