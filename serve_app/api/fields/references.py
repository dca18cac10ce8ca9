"""Inputs that a body holds as text: ids of uploads and jobs, base64 data URLs, and URLs of other servers."""

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote

from deployments.jobs.inputs import InputUrl, Source
from serve_app.api.fields.texts import parse_text
from wan22_bridge.errors import InvalidRequest

_TYPES = ("image/png", "image/jpeg", "image/jpg", "image/webp", "video/mp4", "application/octet-stream")
_ID = re.compile(r"[\w.:/\\-]{1,200}")
"""Form of an id. An unknown id gets an error of its own, which names it."""
_HTTP = re.compile("https?://", re.IGNORECASE)


def read_reference(value: Any, param: str) -> Source:
    """Reads an input from a text or an object.

    Args:
        value: an id, a URL, an object with one of them as `file_id`, `id`, `image_url`, `video_url` or `url`,
            or such an object as JSON.
        param: the client's name of the field, for errors.

    Returns:
        The content of a `data:` URL, the id of an upload or of a job, or an http or https URL.

    Raises:
        InvalidRequest: the value holds neither; the error says what is wrong with it.
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = parse_text(value, param, dict)
    if isinstance(value, dict):
        for key in ("file_id", "id", "image_url", "video_url", "url"):
            if value.get(key) is not None:
                return read_reference(value[key], param)
        raise _invalid(param, "the object has none of: file_id, image_url")
    if not isinstance(value, str):
        raise _invalid(param, f"it is {str(value)[:40]!r}")
    text = value.strip()
    if text[:5].lower() == "data:":
        return _read_data_url(text, param)
    if _HTTP.match(text):
        return InputUrl(text)
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        raise _invalid(param, "it is an address that begins with neither https:// nor http://")
    if _ID.fullmatch(text) is None:
        raise _invalid(param, "it is neither an id nor a data URL, which begins with data:image/png;base64,")
    return text


def may_hold_address(value: Any) -> bool:
    """Returns whether a value of a body may hold an http or https URL of an input, at any depth."""
    if isinstance(value, dict):
        return any(map(may_hold_address, value.values()))
    text = value.lstrip() if isinstance(value, str) else ""
    return bool(_HTTP.match(text)) or (text.startswith("{") and _HTTP.search(text) is not None)


def _read_data_url(url: str, param: str) -> bytes:
    head, comma, text = url.partition(",")
    media_type, *options = head[5:].lower().split(";")
    if not comma:
        raise _invalid(param, "the data URL has no comma between its type and its content")
    if media_type.strip() not in ("", *_TYPES):
        raise _invalid(
            param, f"the data URL has the type {media_type[:40]!r}: expected image/png, image/jpeg or image/webp"
        )
    if "base64" not in (option.strip() for option in options):
        raise _invalid(param, "the data URL is not marked as base64: expected ;base64 before the comma")
    text = "".join((unquote(text) if "%" in text else text).split()).rstrip("=").translate(str.maketrans("-_", "+/"))
    if not text:
        raise _invalid(param, "the data URL has no content")
    if wrong := re.search(r"[^A-Za-z0-9+/]", text):
        raise _invalid(
            param, f"the data URL has {wrong[0]!r} at character {wrong.start() + 1} of its content, which is not base64"
        )
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as exc:
        raise _invalid(param, f"the data URL's content is cut off: {len(text)} base64 characters") from exc


def _invalid(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"{param} can't be read: {reason}.",
        code="invalid_input_reference",
        param=param,
        suggestions=[
            "Send the image as a file in multipart/form-data.",
            "Or send the id of an upload, or a base64 data URL such as data:image/png;base64,iVBORw0…",
        ],
    )
