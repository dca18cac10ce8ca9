"""Values that forms send as text."""

import ast
from typing import Any

from wan22_bridge.errors import InvalidRequest
from wan22_bridge.models.bounded_json import parse_json

_NOTHING = ("", "null", "undefined", "None")
"""Texts for a value that is not there, in forms that JavaScript and Python fill."""
_NO = ("false", "off", "no", "0")
MAX_PYTHON_CHARACTERS = 10_000
"""Maximum length of a text in Python's notation. A megabyte takes Python seconds, in which nothing else runs."""


def is_nothing(value: Any, *, keep_empty_text: bool = False) -> bool:
    """Returns whether a value of an optional field means that the field is left out.

    Args:
        value: the value.
        keep_empty_text: whether the empty text is a value of the field.
    """
    if not isinstance(value, str):
        return value is None
    return value.strip() in _NOTHING and not (keep_empty_text and not value.strip())


def is_no(value: Any) -> bool:
    """Returns whether a value asks for nothing: null, false, zero, or something empty."""
    return is_nothing(value) or not value or (isinstance(value, str) and value.strip().lower() in _NO)


def parse_text(text: str, param: str, *kinds: type) -> Any:
    """Returns the value of a text in JSON, or of a short text in Python's notation, which some benchmarks send.

    Args:
        text: the text.
        param: the field's name, for the error.
        *kinds: the expected types: dict, list or both.

    Raises:
        InvalidRequest: the text does not hold such a value.
    """
    for parse in (parse_json, ast.literal_eval) if len(text) <= MAX_PYTHON_CHARACTERS else (parse_json,):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(value, kinds):
            return value
    expected = " or ".join("object" if kind is dict else "array" for kind in kinds)
    raise InvalidRequest(
        f"{param} is {text[:60]!r}: expected a JSON {expected}.",
        code="invalid_value",
        param=param,
        suggestions=[f"Send {param} as JSON."],
    )


def prune(value: Any) -> Any:
    """Returns an object or a list without the nulls in it, at any depth."""
    if isinstance(value, dict):
        return {key: prune(item) for key, item in value.items() if item is not None}
    return [prune(item) for item in value] if isinstance(value, list) else value
