"""Types of texts in bodies, whose limits the OpenAPI document states."""

from typing import Annotated, Any

from pydantic import Field

from deployments.network.addresses import MAX_URL_CHARACTERS
from wan22_bridge.requests.prompts import MAX_TEXT_CHARACTERS

Prompt = Annotated[
    str,
    Field(
        json_schema_extra={
            "minLength": 1,
            "maxLength": MAX_TEXT_CHARACTERS,
            "pattern": r"^[^\u0000]*[^\s\u0000\u001c-\u001f\u0085][^\u0000]*$",
        }
    ),
]
"""A text that is not blank. `require_prompt` checks it, with errors that say more than pydantic's."""

STORABLE = r"^[^\u0000]*$"
"""Pattern of the texts that a database can store: PostgreSQL rejects NUL."""
WEBHOOK_URL: Any = Field(
    default=None,
    json_schema_extra={
        "anyOf": [
            {"type": "string", "pattern": "^https?://", "maxLength": MAX_URL_CHARACTERS},
            {"type": "null"},
        ]
    },
)
"""Default and limits of a receiver's URL. `check_receiver` checks it, with errors that say more than pydantic's."""
