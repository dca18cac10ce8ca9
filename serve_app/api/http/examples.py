"""Examples in the OpenAPI document, made from the schemas."""

from collections.abc import Mapping
from typing import Any

_JOB = "video_4f0c2a9b7d1e6358c0a1b2d3"
_WEBHOOK = "msg_5a1b0c9d8e7f6a5b4c3d2e1f"
_BATCH = "batch_9d1e6358c0a1b2d34f0c2a9b"
_UPLOAD = "9f2c1d0e8b7a6f5e4d3c2b1a09f8e7d6c5b4a3928170f6e5d4c3b2a190817263"
_KEY = "9f86d081884c7d65"
_ABSENT = object()

PARAMETERS: dict[str, tuple[str, Any]] = {
    "active_only": ("Whether to list only pending and running jobs.", True),
    "after": ("Id of the last job of the previous page. By default the first page is returned.", None),
    "batch_id": ("Id of a batch.", _BATCH),
    "idempotency-key": ("Key of the request: a repeated request with the same key returns the first one's job.", None),
    "hours": ("Length of the period in hours, above 0 and at most 168.", 24),
    "if-none-match": ("Entity tag of the last response, which is sent again only if it has changed.", None),
    "key_id": ("Id of an API key, its middle part.", _KEY),
    "last-event-id": ("Number of the last event that the client received. The stream resumes after it.", None),
    "before": ("Number of the last entry of the previous page. Older entries follow.", 100),
    "limit": ("Maximum number of items to return.", 20),
    "model_id": ("Id of a model.", "tiny-t2v"),
    "model_type": ("Id or type of a model, in any case.", "T2V-A14B"),
    "name": ("Name of a LoRA.", "tiny-neon"),
    "order": ("`desc` lists the newest first, `asc` the oldest.", "desc"),
    "status": ("Lists only jobs in this state.", "completed"),
    "task_id": ("Id of a job.", _JOB),
    "timeout_seconds": ("Time limit in seconds.", 1200),
    "upload_id": ("Id of an upload, or of an input of a job.", _UPLOAD),
    "variant": ("The file to return.", "video"),
    "webhook_id": ("Id of a webhook, which its receiver gets as `webhook-id`.", _WEBHOOK),
    "video_id": ("Id of a video and of its job.", _JOB),
}
"""Description and example of the parameters of all routes, by name. Optional ones that name a resource of the server
have no example, because none exists on every server."""

_VALUES: dict[str, Any] = {
    "batch_id": _BATCH,
    "completed_at": "2026-03-01T12:02:00Z",
    "created_at": "2026-03-01T12:00:00Z",
    "started_at": "2026-03-01T12:00:01Z",
    "file_path": f"/api/v1/outputs/{_JOB}/video",
    "filename": f"{_JOB}.mp4",
    "id": _JOB,
    "message": "Done.",
    "model": "tiny-t2v",
    "model_id": "tiny-t2v",
    "model_type": "T2V-A14B",
    "prompt": "A red fox runs through fresh snow, filmed from the side.",
    "resolution": "1280x720",
    "seconds": "5",
    "size": "1280x720",
    "task_id": _JOB,
    "task_ids": [_JOB],
    "video_ids": [_JOB],
    "thumbnail_path": f"/api/v1/outputs/{_JOB}/thumbnail",
}
"""Values that say more than one made from the type. A value is used only where its type fits."""

_KINDS: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}


def make_example(
    schema: Mapping[str, Any], shared: Mapping[str, Any], *, name: str = "", is_request: bool = False
) -> Any:
    """Returns a value that a schema allows.

    Args:
        schema: a JSON schema.
        shared: the schemas that references name, by their last part.
        name: the name of the field that has the schema.
        is_request: whether objects get their required fields only, without files, because a client need send no more.
    """
    if "$ref" in schema:
        schema = shared[schema["$ref"].rpartition("/")[2]]
    if (given := _given(schema, name)) is not _ABSENT:
        return given
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema and "properties" not in schema:
            return make_example(schema[key][0], shared, name=name, is_request=is_request)
    kind = schema.get("type")
    if kind == "object":
        return _make_object(schema, shared, is_request)
    if kind == "array" and "prefixItems" in schema:
        return [make_example(item, shared, is_request=is_request) for item in schema["prefixItems"]]
    if kind == "array":
        return [make_example(schema.get("items", {}), shared, is_request=is_request)]
    if kind == "string":
        return "2026-03-01T12:00:00Z" if schema.get("format") == "date-time" else name or "text"
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return {"boolean": True, "null": None}.get(str(kind), {})


def _given(schema: Mapping[str, Any], name: str) -> Any:
    """Returns the value that a schema or the name of its field sets, or `_ABSENT`."""
    if schema.get("examples"):
        return schema["examples"][0]
    for key in ("example", "const"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    value = _VALUES.get(name, _ABSENT)
    if isinstance(value, _KINDS.get(str(schema.get("type")), ())):
        return value
    return _ABSENT


def _make_object(schema: Mapping[str, Any], shared: Mapping[str, Any], is_request: bool) -> dict[str, Any]:
    fields = schema.get("properties", {})
    if is_request:
        required = [*schema.get("required", []), *_first_choice(schema)]
        fields = {name: field for name, field in fields.items() if name in required and not _is_file(field)}
    example = {name: make_example(field, shared, name=name, is_request=is_request) for name, field in fields.items()}
    values = schema.get("additionalProperties")
    if not fields and isinstance(values, dict) and not is_request:
        example["tiny-t2v" if "$ref" in values else "key"] = make_example(values, shared)
    return example


def _first_choice(schema: Mapping[str, Any]) -> list[str]:
    """Returns the required fields of the first of the alternatives that an object has."""
    return [name for part in schema.get("allOf", []) for name in part.get("anyOf", [{}])[0].get("required", [])]


def _is_file(schema: Mapping[str, Any]) -> bool:
    return schema.get("format") == "binary"
