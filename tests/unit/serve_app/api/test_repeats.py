"""Requests that are repeated after the service was restarted with other settings."""

from pathlib import Path
from typing import Any

import pytest

from tests.http_api import open_api

_BODY = {"prompt": "a cat", "model_type": "tiny-t2v", "webhook_url": "http://10.0.0.1/"}
_KEY = {"Idempotency-Key": "k"}


@pytest.mark.parametrize("changed", [{"models": ["tiny-i2v"]}, {"webhooks": {"allow_private": False}}], ids=list)
@pytest.mark.parametrize("path", ["/api/v1/generation/submit", "/v1/videos"])
def test_a_repeat_gets_the_first_answer_after_a_change_of_the_settings(
    path: str, changed: dict[str, Any], tmp_path: Path
) -> None:
    before: dict[str, Any] = {"models": ["tiny-t2v"], "webhooks": {"allow_private": True}}
    with open_api(tmp_path, **before) as client:
        first = client.post(path, json=_BODY, headers=_KEY)
        assert first.is_success
    with open_api(tmp_path, **before | changed) as client:
        repeated = client.post(path, json=_BODY, headers=_KEY)
        assert (repeated.status_code, repeated.json()) == (first.status_code, first.json())
        assert client.post(path, json=_BODY, headers={"Idempotency-Key": "new"}).status_code == 400
        other = client.post(path, json=_BODY | {"prompt": "a dog"}, headers=_KEY)
        assert other.json()["error"]["code"] == "idempotency_key_reused"
