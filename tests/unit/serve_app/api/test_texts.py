"""Values that forms send as text."""

import pytest

from serve_app.api.fields.texts import MAX_PYTHON_CHARACTERS, parse_text
from wan22_bridge.errors import InvalidRequest


def test_a_text_is_read_as_json_or_in_pythons_notation() -> None:
    assert parse_text('["a", null]', "seeds", list) == ["a", None]
    assert parse_text("['a', None]", "seeds", list) == ["a", None]


def test_a_long_text_is_read_as_json_only() -> None:
    long = "a" * MAX_PYTHON_CHARACTERS
    assert parse_text(f'["{long}"]', "seeds", list) == [long]
    with pytest.raises(InvalidRequest, match="expected a JSON array"):
        parse_text(f"['{long}']", "seeds", list)
