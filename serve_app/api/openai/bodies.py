"""Request bodies of the OpenAI-compatible API: their fields are translated into the native API's."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from deployments.jobs.job import Job
from serve_app.api.access.callers import Caller
from serve_app.api.fields.names import ALIASES
from serve_app.api.http.bodies import Body
from serve_app.api.services import Services
from serve_app.api.submission import SUBMIT_SCHEMA, describe_body, submit_body

_OPENAI_NAMES = {
    "model_type": "model",
    "resolution": "size",
    "image": "input_reference",
    "image_path": "input_reference",
}
"""OpenAI's names of the native API's fields, for errors about fields that a request does not have."""


def describe_fields(
    own: Mapping[str, Any], *, required: Sequence[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """Returns the OpenAPI description of a body with the fields of both APIs.

    Args:
        own: JSON schemas of fields that only this route has.
        required: names of required fields besides `prompt`, which `segments` replaces.
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
        "size": SUBMIT_SCHEMA["properties"]["resolution"]
        | {"description": "Size as WIDTHxHEIGHT in pixels, or 480p or 720p."},
    }
    without = {*without, *(alias for alias, name in ALIASES.items() if name in without)} - {*own}
    properties = SUBMIT_SCHEMA["properties"] | renamed | dict(own)
    kept = {name: field for name, field in properties.items() if name not in without}
    return describe_body(SUBMIT_SCHEMA | {"properties": kept} | ({"required": [*required]} if required else {}))


_INPUT = {
    "input_reference": {
        "type": "string",
        "format": "binary",
        "description": (
            "First frame: PNG, JPEG or WebP. With an mp4, the new video continues that video from its last frame. "
            "Also as text: the id of an upload, a base64 data URL or, if the operator allows it, an https URL, or an "
            "object with one of them as file_id or image_url."
        ),
    }
}
VIDEO_BODY = describe_fields(_INPUT)
"""OpenAPI description of the body for new videos."""
ONE_VIDEO_BODY = describe_fields(_INPUT, without=("num_outputs", "seeds"))
"""OpenAPI description of the body for one new video."""


def submit_openai_body(
    serving: Services,
    caller: Caller,
    body: Body,
    idempotency_key: str | None,
    input_names: Mapping[str, str] = MappingProxyType({}),
    *,
    only_one: bool = False,
) -> list[Job]:
    """Submits a body with OpenAI's names of fields.

    Args:
        serving: the services.
        caller: the owner of the new jobs.
        body: the fields and files.
        idempotency_key: key of the request in its stored form; None if there is none.
        input_names: the client's names of inputs that the route moved, by the native API's.
        only_one: whether to reject a body that asks for several videos.

    Returns:
        The stored jobs, in the order of their seeds.

    Raises:
        Wan22Error: the same errors as `submit_body`.
    """
    return submit_body(
        serving, caller, body, idempotency_key, names=_OPENAI_NAMES, replaced=input_names, only_one=only_one
    )
