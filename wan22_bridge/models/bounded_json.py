"""JSON of strangers, whose objects take a bounded amount of memory."""

import json
import re
from typing import Any

MAX_PARTS = 100_000
"""Maximum texts, commas and opening brackets together. The header of a large LoRA has about 20,000."""
_PARTS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{,]', re.DOTALL)


def parse_json(text: str) -> Any:
    """Parses JSON, after counting what it would become.

    A value of a few bytes becomes an object of up to a hundred, so that 16 MB of brackets would take a gigabyte.

    Raises:
        ValueError: The text is not JSON, or it has too many parts or is nested too deeply.
    """
    for index, _ in enumerate(_PARTS.finditer(text)):
        if index >= MAX_PARTS:
            raise ValueError(f"more than {MAX_PARTS} parts")
    try:
        return json.loads(text)
    except RecursionError as exc:
        raise ValueError("too many brackets inside brackets") from exc
