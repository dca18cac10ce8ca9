"""Hooks of schemathesis: jobs that it submits are cancelled, and failures that the document can't prevent dropped."""

from typing import Any

import httpx
import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData

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
        return response.status_code != 400 or response.json()["error"]["code"] in _MALFORMED
    if isinstance(failure, AcceptedNegativeData):
        # Bodies that may also be forms are read leniently: "5" is a number, and an empty text is an absent field.
        content = case.operation.definition.raw.get("requestBody", {}).get("content", {})
        return "multipart/form-data" not in content
    return True
