"""Values that other servers' clients send in other forms than this service declares."""

import re
from pathlib import PurePosixPath
from typing import Any, get_args, get_origin

from serve_app.api.fields.names import MAX_SIDE
from serve_app.api.fields.texts import parse_text, prune
from serve_app.api.schemas.submissions import MAX_SECONDS, SubmitRequest
from wan22_bridge.errors import InvalidRequest

_INDEX = re.compile(r"\d{1,9}", re.ASCII)
"""Key of an item of a list in a form. `int` takes neither other digits, such as ², nor thousands of them."""


def nested_kinds(name: str) -> tuple[type, ...]:
    """Returns `dict` or `list` for a declared field that holds such a value; empty for other fields."""
    annotation: Any = SubmitRequest.model_fields[name].annotation
    kinds = (annotation, *get_args(annotation)) if get_origin(annotation) not in (dict, list) else (annotation,)
    return tuple(kind for kind in (dict, list) if any(get_origin(each) is kind for each in kinds))


def read_nested(value: Any, name: str, kinds: tuple[type, ...]) -> Any:
    """Returns the value of a field with an object or a list, without nulls in it.

    A form may send a list as JSON, or each item in a field of its own.

    Raises:
        InvalidRequest: the value is a text that holds neither.
    """
    if isinstance(value, str) and (kinds != (list,) or value.lstrip().startswith(("[", "("))):
        value = parse_text(value, name, *kinds)
    elif isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        value = [
            parse_text(item, name, dict) if isinstance(item, str) and item.lstrip().startswith("{") else item
            for item in value
        ]
    if kinds == (list,) and isinstance(value, dict) and all(_INDEX.fullmatch(str(key)) for key in value):
        value = [value[key] for key in sorted(value, key=int)]  # a form's name[0], name[1]
    return prune(value)


def read_lora(value: Any, name: str) -> dict[str, Any]:
    """Converts a LoRA of vLLM-Omni's API: its name, else the name of its file, and its scale.

    Raises:
        InvalidRequest: the value names no LoRA.
    """
    if isinstance(value, str):
        value = parse_text(value, name, dict) if value.lstrip().startswith("{") else {"name": value}
    keys = {"name": ("name", "lora_name", "adapter"), "path": ("path", "lora_path", "local_path")}
    found = {
        key: next((value[each] for each in choices if isinstance(value.get(each), str) and value[each]), None)
        for key, choices in keys.items()
        if isinstance(value, dict)
    }
    lora_name = found.get("name") or PurePosixPath(found.get("path") or "").name.removesuffix(".safetensors")
    if not lora_name:
        raise InvalidRequest(
            f"{name} is {str(value)[:60]!r}: expected an object with the name of a LoRA, such as "
            '{"name": "neon", "scale": 0.8}.',
            code="invalid_value",
            param=name,
        )
    scale = next((value[key] for key in ("scale", "lora_scale", "strength") if value.get(key) is not None), 1.0)
    return {"name": lora_name, "strength": scale}


def read_seconds(value: Any, name: str) -> float:
    """Returns a length in seconds.

    Raises:
        InvalidRequest: the value is not a number above 0 and below 3600.
    """
    try:
        seconds = float(value) if isinstance(value, str | int | float) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds < MAX_SECONDS:
        raise InvalidRequest(
            f"{name} is {str(value)[:40]!r}: expected a number above 0 and below {MAX_SECONDS}.",
            code="invalid_seconds",
            param=name,
            suggestions=["Send the video's length in seconds, for example 5."],
        )
    return seconds


def read_side(value: Any, name: str) -> int:
    """Returns a width or a height in pixels.

    Raises:
        InvalidRequest: the value is not a whole number above 0.
    """
    try:
        side = float(value) if isinstance(value, str | int | float) else 0.0
    except (ValueError, OverflowError):
        side = 0.0
    if not (1 <= side <= MAX_SIDE and side.is_integer()):
        raise InvalidRequest(
            f"{name} is {str(value)[:40]!r}: expected a number of pixels, such as 832.",
            code="invalid_value",
            param=name,
        )
    return int(side)
