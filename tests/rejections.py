"""Checks of the error body that all routes share."""

from pathlib import Path
from typing import Any

import httpx
import httpx2


def check_rejection(answer: httpx.Response | httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Checks that a response rejects a request with this status and code, and returns its error."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "detail"}
    assert set(body["error"]) == {"type", "code", "message", "param", "suggestions", "can_retry"}
    assert body["detail"] == body["error"]["message"]
    assert body["error"]["code"] == code
    assert "Traceback" not in answer.text
    assert str(Path.home()) not in answer.text
    error: dict[str, Any] = body["error"]
    return error
