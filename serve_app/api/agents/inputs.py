"""Inputs of the MCP server's tools: an id, a URL, or a file's content as text."""

import base64
import binascii
import re

from deployments.jobs.inputs import InputUrl, Source
from deployments.jobs.job import JOB_ID_PREFIX
from wan22_bridge.errors import InvalidRequest

_UPLOAD_ID = re.compile("[0-9a-f]{64}")
_MIN_FILE_CHARACTERS = 80
"""The smallest PNG has more characters in base64. A shorter text is taken for a wrong id."""


def read_input(value: str, name: str) -> Source:
    """Reads an input.

    Args:
        value: the id of an upload or of a completed video, an http, https or `data:` URL, or base64.
        name: the tool's name of the input, for errors.

    Returns:
        The file's content, the id, or the http or https URL.

    Raises:
        InvalidRequest: the value is none of these.
    """
    value = value.strip()
    if value.startswith(JOB_ID_PREFIX) or _UPLOAD_ID.fullmatch(value):
        return value
    if re.match("https?://", value, re.IGNORECASE):
        return InputUrl(value)
    head, comma, data = value.partition(",")
    if value.startswith("data:"):
        if not comma or not head.endswith(";base64"):
            raise _invalid(name, "a data: URL without base64")
        value = data
    text = re.sub(r"\s+", "", value).translate(str.maketrans("-_", "+/")).rstrip("=")
    if len(text) < _MIN_FILE_CHARACTERS:
        raise _invalid(name, f"{value[:80]!r}")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as exc:
        raise _invalid(name, f"no valid base64: {exc}") from exc


def _invalid(name: str, found: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name} is {found}. Expected the id of an upload, the id of a completed video, or a file in base64.",
        code="invalid_input",
        param=name,
        suggestions=["Upload the file with POST /api/v1/uploads, and send the id from the response."],
    )
