"""JSON of strangers, whose objects take a bounded amount of memory and whose nesting is bounded."""

import json
import re
from typing import Any

MAX_PARTS = 100_000
"""Maximum texts, commas and opening brackets together. The header of a large LoRA has about 20,000."""
MAX_DEPTH = 100
"""Maximum brackets inside brackets. Code that walks over nested values takes a frame or two for each."""
_PARTS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{,\]}]', re.DOTALL)


def parse_json(text: str) -> Any:
    """Parses JSON, after `check_json`.

    Raises:
        ValueError: The text is not JSON, or it has too many parts or is nested too deeply.
    """
    check_json(text)
    return json.loads(text)


def check_json(text: str) -> None:
    """Counts what JSON would become, without parsing it.

    A value of a few bytes becomes an object of up to a hundred, so that 16 MB of brackets would take a gigabyte.

    Raises:
        ValueError: The text has too many parts, is nested too deeply, or closes a bracket that is not open.
    """
    count = depth = 0
    for found in _PARTS.finditer(text):
        part = found[0]
        if part in ("]", "}"):
            depth -= 1
        else:
            count += 1
            depth += part in ("[", "{")
        if count > MAX_PARTS:
            raise ValueError(f"more than {MAX_PARTS} parts")
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} brackets inside brackets")
        if depth < 0:
            raise ValueError("a bracket is closed that is not open")
