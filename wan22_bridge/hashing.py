"""Hashes of requests and computations, which stay the same when a later version adds a field with a default."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any


def hash_values(scheme: str, *values: Any) -> str:
    """Returns the SHA-256 of values: equal for equal values under the same scheme.

    Fields of dataclasses that equal their declared defaults are left out. A later version can therefore add a field
    with a default without changing the hashes of stored values. A changed default needs a new scheme, because the hash
    does not show which default a left-out field had.

    Args:
        scheme: the version of the hash; a new one makes all earlier hashes differ.
        values: JSON values, and dataclasses of such values.
    """
    content = json.dumps([scheme, *map(_without_defaults, values)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _without_defaults(value: Any) -> Any:
    """Replaces dataclasses, at any depth, by their values that differ from the declared defaults."""
    if is_dataclass(value) and not isinstance(value, type):
        changed = (item for item in fields(value) if getattr(value, item.name) != _default(item))
        return {item.name: _without_defaults(getattr(value, item.name)) for item in changed}
    if isinstance(value, Mapping):
        return {key: _without_defaults(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_defaults(item) for item in value]
    return value


def _default(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()
