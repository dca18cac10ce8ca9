"""Request bodies: JSON, form and multipart are read into one shape, up to a size limit."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette._utils import get_route_path
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.http.threads import run_to_end
from wan22_bridge.errors import InvalidRequest, PayloadTooLarge
from wan22_bridge.models.bounded_json import check_json

_MAX_FIELD_BYTES = 1_000_000
_SHORT_JSON_BYTES = 1_000_000
"""Size up to which JSON is checked at once: some milliseconds. Longer JSON would hold up all other requests."""
_MIN_FILE_LIMIT = 10_000
"""Lowest limit of a body that may hold a file, in bytes."""
_MAX_PARTS = 200
_MAX_DEPTH = 5
_FILE_FIELDS = ("image", "end_image", "video", "input_reference", "file")
"""Names of file fields: browsers send an empty text for such a field if no file was chosen."""


class BodyLimit:
    """ASGI middleware that rejects a body over the size limit without reading it to its end.

    Some paths may have a limit of their own. JSON is read to its end and checked before anything parses it, because a
    small text can become objects of many times its size, or be nested too deeply for whatever walks over it.

    It replaces FastAPI's own `max_body_size`, because that responds in plain text, without the error body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_bytes_of_path: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_bytes_of_path = max_bytes_of_path or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application, and counts the bytes of the body that it reads.

        Raises:
            PayloadTooLarge: the body is over the limit. It is raised inside the application, which responds.
            InvalidRequest: the same for JSON that has too many parts or is nested too deeply.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        limit = self._max_bytes_of_path.get(get_route_path(scope), self._max_bytes)
        count = 0

        async def counted() -> Message:
            nonlocal count
            if declared.isdigit() and int(declared) > limit:  # before the body takes a place and memory
                raise _too_large(limit)
            message = await receive()
            count += len(message.get("body", b""))
            if count > limit:
                raise _too_large(limit)
            return message

        is_json = "json" in headers.get("content-type", "").lower()
        await self._app(scope, _checking_json(counted) if is_json else counted, send)


def _too_large(limit: int) -> PayloadTooLarge:
    if limit < _MIN_FILE_LIMIT:
        return PayloadTooLarge(f"The request's body is larger than the limit of {limit} bytes.")
    return PayloadTooLarge(
        f"The request's body is larger than the limit of {limit / 1e6:g} MB.",
        suggestions=["Scale an image down, or send it as JPEG.", "Scale a video down, or shorten it."],
    )


def _checking_json(receive: Receive) -> Receive:
    """Returns a function that receives a JSON body as one message, once it is checked."""

    async def checked() -> Message:
        body = bytearray()
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                content = bytes(body)
                if len(content) <= _SHORT_JSON_BYTES:
                    _check_json(content)
                else:
                    await run_to_end(partial(_check_json, content))
                return {**message, "body": content}
        return message

    return checked


def _check_json(body: bytes) -> None:
    try:
        check_json(body.decode(json.detect_encoding(body), "surrogatepass"))
    except UnicodeError as exc:
        raise _invalid_json("is not valid JSON in UTF-8") from exc
    except ValueError as exc:
        raise _invalid_json(f"can't be read as JSON: {exc}") from exc


def _invalid_json(problem: str) -> InvalidRequest:
    return InvalidRequest(f"The body {problem}.", code="invalid_json")


@dataclass(frozen=True, slots=True)
class Body:
    """Fields and files of a request, independent of its content type."""

    fields: dict[str, Any]
    files: dict[str, bytes]


async def read_body(request: Request) -> Body:
    """Reads a request's body according to its content type.

    Raises:
        InvalidRequest: the content type is not supported, or the body does not match it.
        PayloadTooLarge: the body is over the size limit.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await _read_form(request)
    if content_type in ("application/json", ""):  # "" only without a body
        return Body(await _read_json(request), {})
    raise InvalidRequest(
        f"The content type {content_type[:80]!r} is not supported.",
        code="unsupported_content_type",
        suggestions=["Send application/json, multipart/form-data or application/x-www-form-urlencoded."],
    )


async def _read_json(request: Request) -> dict[str, Any]:
    try:
        data = json.loads(await request.body())
        json.dumps(data, ensure_ascii=False).encode()  # JSON can hold half a surrogate pair, which UTF-8 can't
    except ValueError as exc:
        raise _invalid_json("is not valid JSON in UTF-8") from exc
    if not isinstance(data, dict):
        raise _invalid_json("must be a JSON object")
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


def check_names(names: Iterable[str], known: Iterable[str]) -> None:
    """Checks the names of a form's fields.

    Raises:
        InvalidRequest: a field is not among the known ones.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise InvalidRequest(
                f"Unknown field {name[:80]!r}.",
                code="unknown_field",
                param=name[:80],
                suggestions=[f"The fields are {', '.join(known)}."],
            )


def _join(earlier: Any, value: str) -> Any:
    """Returns the value of a field that may have come before: a form may send a list's items one by one."""
    if earlier is None or earlier == value:
        return value
    return [*earlier, value] if isinstance(earlier, list) else [earlier, value]


def put_field(fields: dict[str, Any], name: str, value: str) -> None:
    """Adds a form field to nested fields.

    `a[b][c]` becomes `{"a": {"b": {"c": value}}}`, and `a[]` appends to a list, as a repeated `a` does. An index such
    as in `a[0]` becomes a key of a dictionary.

    Raises:
        InvalidRequest: the name does not have that form, or contradicts the name of another field.
    """
    match = re.fullmatch(rf"([^\[\]]+)((?:\[[^\[\]]+\]){{0,{_MAX_DEPTH}}})(\[\])?", name)
    if match is not None:
        *parents, last = [match[1], *re.findall(r"\[([^\[\]]+)\]", match[2])]
        target: Any = fields
        for key in parents:
            target = target.setdefault(key, {}) if isinstance(target, dict) else None
        if isinstance(target, dict) and match[3] is None:
            target[last] = _join(target.get(last), value)
            return
        if isinstance(target, dict) and isinstance(values := target.setdefault(last, []), list):
            values.append(value)
            return
    raise InvalidRequest(
        f"The form field {name[:80]!r} can't be read: expected NAME, NAME[KEY] or NAME[], and no other field that "
        "contradicts it.",
        code="invalid_form",
        param=name.partition("[")[0][:80] or None,
    )
