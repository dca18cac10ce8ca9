"""Request bodies: JSON, form or multipart into one shape, read no further than allowed."""

import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan22_bridge.errors import InvalidRequest, PayloadTooLarge

_MAX_FIELD_BYTES = 1_000_000
_MAX_PARTS = 200
_MAX_DEPTH = 5
_FILE_FIELDS = ("image", "end_image", "video", "input_reference", "file")
"""A form that sends one of them as an empty text means that no file was chosen."""


class BodyLimit:
    """ASGI middleware: a body over the limit is not read to its end.

    FastAPI's own `max_body_size` answers in plain text, whatever the application would say.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Counts what the application reads."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        count = 0

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > self._max_bytes or (declared.isdigit() and int(declared) > self._max_bytes):
                raise PayloadTooLarge(
                    f"The request's body is over {self._max_bytes / 1e6:g} MB, the limit here.",
                    suggestions=["Send a smaller image: scaled down, or as JPEG.", "Cut a video, or scale it down."],
                )
            return message

        await self._app(scope, counted, send)


@dataclass(frozen=True, slots=True)
class Body:
    """A request's fields and files, however they came."""

    fields: dict[str, Any]
    files: dict[str, bytes]


async def read_body(request: Request) -> Body:
    """Reads a request's body by its content type.

    Raises:
        InvalidRequest: it is not what its content type says, or of another type.
        PayloadTooLarge: it is over the limit.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await _read_form(request)
    if content_type in ("application/json", ""):
        return Body(await _read_json(request), {})
    raise InvalidRequest(
        f"The content type {content_type[:80]!r} is not taken here.",
        code="unsupported_content_type",
        suggestions=["Send application/json, multipart/form-data or application/x-www-form-urlencoded."],
    )


async def _read_json(request: Request) -> dict[str, Any]:
    try:
        data = json.loads(await request.body())
        json.dumps(data, ensure_ascii=False).encode()  # JSON can name half a character, which nothing can write
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest("The body is not valid JSON in UTF-8.", code="invalid_json") from exc
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    return data


async def _read_form(request: Request) -> Body:
    fields: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    try:
        async with request.form(max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=_MAX_FIELD_BYTES) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    if value.filename or value.size:
                        files[name] = await value.read()
                elif value or name not in _FILE_FIELDS:
                    put_field(fields, name, value)
    except HTTPException as exc:
        raise InvalidRequest(f"The form can't be read: {exc.detail}", code="invalid_form") from exc
    return Body(fields, files)


def put_field(fields: dict[str, Any], name: str, value: str) -> None:
    """Puts `a[b][c]` as {"a": {"b": {"c": value}}} and `a[]` as a list; list indexes stay dictionary keys.

    Raises:
        InvalidRequest: the name is not of that form, or contradicts another field's.
    """
    match = re.fullmatch(rf"([^\[\]]+)((?:\[[^\[\]]+\]){{0,{_MAX_DEPTH}}})(\[\])?", name)
    if match is not None:
        *parents, last = [match[1], *re.findall(r"\[([^\[\]]+)\]", match[2])]
        target: Any = fields
        for key in parents:
            target = target.setdefault(key, {}) if isinstance(target, dict) else None
        if isinstance(target, dict) and match[3] is None:
            target[last] = value
            return
        if isinstance(target, dict) and isinstance(values := target.setdefault(last, []), list):
            values.append(value)
            return
    raise InvalidRequest(
        f"The form's field {name[:80]!r} can't be read.", code="invalid_form", param=name.partition("[")[0][:80] or None
    )
