"""Normalization of request bodies: the fields of all kinds of clients become the declared fields."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from deployments.jobs.inputs import InputUrl
from serve_app.api.fields.names import (
    ALIASES,
    CONTAINERS,
    INPUTS,
    LORA,
    SIDES,
    UNAVAILABLE,
    WEAK_ALIASES,
    WITHOUT_EFFECT,
    find_field,
    nearest_field,
)
from serve_app.api.fields.references import read_reference
from serve_app.api.fields.texts import is_no, is_nothing, parse_text
from serve_app.api.fields.values import nested_kinds, read_lora, read_nested, read_seconds, read_side
from serve_app.api.schemas.generation_options import accepts_empty_text
from wan22_bridge.errors import InvalidRequest, Wan22Error


@dataclass(kw_only=True, slots=True)
class Submission:
    """A body after normalization."""

    fields: dict[str, Any] = field(default_factory=dict)
    """Values by the fields that `SubmitRequest` declares."""
    files: dict[str, bytes | InputUrl] = field(default_factory=dict)
    """Contents or URLs of the inputs, by the names in `INPUTS`."""
    names: dict[str, str] = field(default_factory=dict)
    """The client's names of fields and inputs, by their declared names."""

    @contextmanager
    def naming(self, others: Mapping[str, str], replaced: Mapping[str, str]) -> Iterator[None]:
        """Makes errors within the context name fields as the client did.

        Args:
            others: names for fields that the client did not send, by the declared names.
            replaced: names for fields that the route moved, by the declared names.
        """
        names = {**others, **self.names, **replaced}
        try:
            yield
        except Wan22Error as exc:
            name, dot, rest = (exc.param or "").partition(".")
            if name in names:
                exc.param = names[name] + dot + rest
                if exc.message.startswith((f"{name} ", f"{name}:", f"{name}.")):
                    exc.message = names[name] + exc.message.removeprefix(name)
            raise


def normalize(fields: Mapping[str, Any], files: Mapping[str, bytes]) -> Submission:
    """Translates a body into declared fields, and leaves out what means nothing.

    The rules are the same for JSON and forms. Null, and the texts for it, leave an optional field out. Types of single
    values are left to `SubmitRequest`.

    Raises:
        InvalidRequest: a field is unknown, not available, given twice with different values, or can't be read.
    """
    submission = Submission()
    for name, content in files.items():
        target = _declared(find_field(name))
        if target is None or target not in INPUTS:
            raise _unknown(name, "file field")
        submission.files[target], submission.names[target] = content, name
    sides: dict[str, Any] = {}
    for name, value in _with_contents(fields):
        known = find_field(name.rpartition(".")[2])
        if known is None:
            raise _unknown(name, "field")
        if known in UNAVAILABLE:
            _check_harmless(known, name, value)
        elif known in SIDES and not is_nothing(value):
            sides.setdefault(known, read_side(value, name))
        elif known not in (*WITHOUT_EFFECT, *SIDES):
            _put(submission, known, name, value)
    if sides:
        _put_size(submission, sides)
    return submission


def _with_contents(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the body's own fields, then those in its containers, whose names begin with the container's."""
    containers: dict[str, Any] = {}
    for name, value in fields.items():
        if find_field(name) in CONTAINERS:
            containers[name] = value
        else:
            yield name, value
    own = {_declared(find_field(name)) for name, value in fields.items() if not is_nothing(value)}
    for container, value in containers.items():
        if is_nothing(value):
            continue
        inner = parse_text(value, container, dict) if isinstance(value, str) else value
        if not isinstance(inner, dict):
            raise InvalidRequest(
                f"{container} is {str(inner)[:60]!r}: expected an object.", code="invalid_value", param=container
            )
        for name, item in inner.items():
            known = find_field(name)
            if known is None or _declared(known) not in own:
                yield f"{container}.{name}", item


def _declared(known: str | None) -> str | None:
    """Returns the declared field on which a known name has an effect."""
    return "resolution" if known in SIDES else "loras" if known == LORA else ALIASES.get(known or "", known)


def _put(submission: Submission, known: str, name: str, value: Any) -> None:
    """Adds a field that takes effect."""
    target = ALIASES.get(known, known)
    if target == "prompt":
        submission.fields[target], submission.names[target] = value, name
        return
    if is_nothing(value, keep_empty_text=accepts_empty_text(target)):
        return
    if target in INPUTS:
        content = read_reference(value, name)
        if not isinstance(content, str):
            submission.files[target], submission.names[target] = content, name
            return
        target, value = f"{target}_path", content
    elif target == LORA:
        target, value = "loras", [*submission.fields.get("loras", []), read_lora(value, name)]
        submission.fields.pop(target, None)
    elif target == "seconds":
        value = read_seconds(value, name)
    elif kinds := nested_kinds(target):
        value = read_nested(value, name, kinds)
        if target == "loras" and isinstance(value, list):
            value = [*submission.fields.pop(target, []), *value]
    if target in submission.fields:
        if known in WEAK_ALIASES:
            return
        if find_field(submission.names[target]) not in WEAK_ALIASES:
            _check_same(submission, target, name, value)
    submission.fields[target], submission.names[target] = value, name


def _check_same(submission: Submission, target: str, name: str, value: Any) -> None:
    other = submission.names[target]
    if str(submission.fields[target]).lower() != str(value).lower():
        raise InvalidRequest(
            f"{name} and {other} are the same field, but have different values: {str(value)[:40]!r} and "
            f"{str(submission.fields[target])[:40]!r}.",
            code="contradictory_fields",
            param=name,
            suggestions=[f"Send either {name} or {other}."],
        )


def _put_size(submission: Submission, sides: Mapping[str, int]) -> None:
    missing = next((side for side in SIDES if side not in sides), None)
    if missing is not None:
        given = next(iter(sides))
        raise InvalidRequest(
            f"{given} is given without {missing}: expected both, in pixels.",
            code="invalid_resolution",
            param=given,
            suggestions=[f"Send {missing} too, or the size as WIDTHxHEIGHT."],
        )
    _put(submission, "resolution", "width", f"{sides['width']}x{sides['height']}")


def _check_harmless(known: str, name: str, value: Any) -> None:
    unavailable = UNAVAILABLE[known]
    if not is_no(value) and str(value).strip().lower() not in unavailable.harmless:
        raise InvalidRequest(
            f"{name} is {str(value)[:60]!r}, but this service does not support it.",
            code="field_not_supported",
            param=name,
            suggestions=[unavailable.instead],
        )


def _unknown(name: str, kind: str) -> InvalidRequest:
    nearest = nearest_field(name.rpartition(".")[2])
    hint = f" Did you mean {nearest!r}?" if nearest else ""
    return InvalidRequest(
        f"Unknown {kind} {name[:80]!r}.{hint}",
        code="unknown_field",
        param=name[:80],
        suggestions=[*([f"Send {nearest}."] if nearest else []), "Leave the field out. /docs lists all fields."],
    )
