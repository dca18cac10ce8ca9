"""Form fields with brackets become nested values, and contradictory fields are rejected."""

from typing import Any

import pytest

from serve_app.api.http.bodies import put_field
from wan22_bridge.errors import InvalidRequest


def _put(*pairs: tuple[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        put_field(fields, name, value)
    return fields


def test_brackets_become_nested_values() -> None:
    assert _put(("a", "1"), ("m[k]", "2"), ("m[l]", "3"), ("t[]", "4"), ("t[]", "5"), ("l[0][name]", "6")) == {
        "a": "1",
        "m": {"k": "2", "l": "3"},
        "t": ["4", "5"],
        "l": {"0": {"name": "6"}},
    }


@pytest.mark.parametrize(
    "pairs",
    [
        [("", "1")],
        [("[a]", "1")],
        [("a", "1"), ("a[b]", "2")],
        [("a", "1"), ("a[]", "2")],
        [("a[][b]", "1")],
        [("a" + "[b]" * 50, "1")],
    ],
)
def test_contradictory_fields_are_rejected(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidRequest, match="can't be read"):
        _put(*pairs)
