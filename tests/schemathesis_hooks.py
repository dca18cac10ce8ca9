"""Hooks of schemathesis: jobs that it submits are cancelled, and failures that the document can't prevent dropped."""

import json
from typing import Any

import httpx
import schemathesis
from jsonschema import Draft202012Validator
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData

from serve_app.api.fields.names import CONTAINERS, SIDES

_MALFORMED = {
    "invalid_form",
    "invalid_json",
    "invalid_prompt",
    "invalid_resolution",
    "invalid_seconds",
    "invalid_value",
    "prompt_empty",
    "prompt_too_long",
    "unknown_field",
    "unsupported_content_type",
}
"""Codes of errors about the form of a body. A body that matches the schema must not get them. Other errors depend on
the service's models, files and jobs."""


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    """Cancels the jobs that a request has submitted, so that none of them runs for long."""
    if response.request.method != "POST" or response.status_code != 200:
        return
    body: Any = response.json()
    if not isinstance(body, dict):
        return
    one = body.get("task_id") or body.get("id")
    for job_id in body.get("task_ids") or body.get("video_ids") or [one]:
        if isinstance(job_id, str) and job_id.startswith("video_"):
            base = str(response.request.url).partition("/api/")[0].partition("/v1/")[0]
            httpx.post(f"{base}/api/v1/queue/{job_id}/cancel", timeout=60, verify=False)


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Returns whether a failure counts."""
    if isinstance(failure, RejectedPositiveData):
        error = response.json()["error"]
        name = (error["param"] or "").partition(".")[0]
        # The document does not describe the fields in a container again, nor that one side of a size needs the other.
        return response.status_code != 400 or (error["code"] in _MALFORMED and name not in (*CONTAINERS, *SIDES))
    if isinstance(failure, AcceptedNegativeData):
        return not _is_valid_as_form(case)
    return True


def _is_valid_as_form(case: Case[Any]) -> bool:
    """Returns whether a body is valid if it is read as a form's texts, as the routes that accept forms read all bodies.

    "5" is a number then, `[1]` an array, and an empty text an absent field.
    """
    content = case.operation.definition.raw.get("requestBody", {}).get("content", {})
    invalid = (
        {str(place) for place, part in case.meta.components.items() if part.mode.is_negative} if case.meta else set()
    )
    if "multipart/form-data" not in content or invalid != {"body"} or not isinstance(case.body, dict):
        return False
    schema = content[case.media_type]["schema"]
    properties = schema["properties"]

    def is_valid(value: Any, schema: Any) -> bool:
        components = case.operation.schema.raw_schema["components"]
        return bool(Draft202012Validator({"allOf": [schema], "components": components}).is_valid(value))

    body = {}
    for name, value in case.body.items():
        read = _read_text(value)
        if read is not None:
            body[name] = value if is_valid(value, properties.get(name, True)) else read
    return is_valid(body, schema)


def _read_text(value: Any) -> Any:
    """Returns the value that a form's text stands for; None for an absent field."""
    if isinstance(value, bytes):
        return "a file"
    if not isinstance(value, str):
        return value
    try:
        return None if value.strip() in ("", "undefined") else json.loads(value)
    except ValueError:
        return value
