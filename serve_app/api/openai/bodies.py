"""Request bodies of the OpenAI-compatible API: their fields are translated into the native API's."""

import base64
import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from deployments.jobs.job import Job
from serve_app.api.http.bodies import Body
from serve_app.api.services import Services
from serve_app.api.submission import SUBMIT_SCHEMA, describe_body, submit_body
from wan22_bridge.errors import InvalidRequest, Wan22Error

_OPENAI_NAMES = {"model_type": "model", "resolution": "size"}
"""OpenAI's names of the native API's fields."""


def describe_fields(
    own: Mapping[str, Any], *, required: Sequence[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """Returns the OpenAPI description of a body with the fields of both APIs.

    Args:
        own: JSON schemas of fields that only this route has.
        required: names of required fields besides `prompt`.
        without: names of the native API's fields that this route does not accept.
    """
    renamed = {
        "model": {"type": "string", "description": "A model's id or type, in any case."},
        "seconds": {
            "anyOf": [
                {"type": "string", "pattern": r"^(\d{1,3}(\.\d+)?)?$"},
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 3600},
                {"type": "null"},
            ],
            "description": "Length of the video, used if num_frames is left out.",
        },
        "size": SUBMIT_SCHEMA["properties"]["resolution"] | {"description": "Size as WIDTHxHEIGHT in pixels."},
    }
    properties = SUBMIT_SCHEMA["properties"] | renamed | dict(own)
    kept = {name: field for name, field in properties.items() if name not in without}
    return describe_body(SUBMIT_SCHEMA | {"properties": kept, "required": ["prompt", *required]})


def submit_openai_body(
    serving: Services, body: Body, idempotency_key: str | None, input_names: Mapping[str, str]
) -> Job:
    """Submits a body with OpenAI's names of fields.

    Args:
        serving: the services.
        body: the fields and files, with the native API's names of inputs.
        idempotency_key: the header's value; None or empty if there is none.
        input_names: the client's names of the inputs, by the native API's; errors name fields as the client did.

    Raises:
        Wan22Error: the same errors as `submit_body`.
    """
    fields = dict(body.fields)
    for native_name, openai_name in _OPENAI_NAMES.items():
        if openai_name in fields:
            fields[native_name] = fields.pop(openai_name)
    seconds = _read_seconds(fields.pop("seconds", None))
    try:
        return submit_body(serving, Body(fields, body.files), idempotency_key, seconds=seconds)
    except Wan22Error as exc:
        exc.param = (_OPENAI_NAMES | dict(input_names)).get(exc.param or "", exc.param)
        raise


def read_input_reference(reference: Any) -> bytes | str:
    """Reads an `input_reference` object.

    Returns:
        The content of an image in a `data:` URL, or the id of an upload.

    Raises:
        InvalidRequest: the object holds neither.
    """
    if isinstance(reference, dict) and isinstance(file_id := reference.get("file_id"), str):
        return file_id
    if isinstance(reference, dict) and isinstance(url := reference.get("image_url"), str):
        head, comma, data = url.partition(",")
        if comma and head.startswith("data:") and head.endswith(";base64"):
            with contextlib.suppress(ValueError):
                return base64.b64decode(data, validate=True)
    raise InvalidRequest(
        "input_reference must be a file, or an object with the file_id of an upload or with a base64 data: URL as "
        "image_url. The service downloads nothing from other addresses.",
        code="invalid_input_reference",
        param="input_reference",
        suggestions=["Send the image as a file in multipart/form-data."],
    )


def _read_seconds(value: Any) -> float | None:
    if value in (None, ""):
        return None
    try:
        seconds = float(value) if isinstance(value, str | int | float) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds < 3600:
        raise InvalidRequest(
            f"seconds is {str(value)[:40]!r}: expected a number above 0 and below 3600.",
            code="invalid_seconds",
            param="seconds",
            suggestions=["Send the video's length in seconds, for example 5."],
        )
    return seconds
