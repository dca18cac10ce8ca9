"""Validation errors name the field and the invalid value, once."""

from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from serve_app.api.http.errors import invalid_fields
from serve_app.api.schemas.submissions import SubmitRequest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fps": 0}, "fps: Input should be greater than or equal to 1, got 0."),
        (
            {"loras": [{"name": "neon"}, {"name": "neon"}]},
            "loras: Value error, expected each LoRA once, got 'neon' more than once.",
        ),
    ],
)
def test_the_message_names_the_invalid_value_once(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SubmitRequest.model_validate({"prompt": "a cat", **fields})
    assert invalid_fields(caught.value).message == message


def test_the_message_for_malformed_json_names_no_value() -> None:
    item = {"type": "json_invalid", "loc": ("body", 3), "msg": "JSON decode error", "input": {}}
    assert invalid_fields(RequestValidationError([item])).message == "3: JSON decode error."
