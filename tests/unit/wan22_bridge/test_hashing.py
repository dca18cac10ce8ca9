"""Hashes cover exactly the values that differ from their declared defaults."""

from dataclasses import dataclass, field

import pytest

from wan22_bridge.hashing import hash_values


@dataclass(frozen=True, kw_only=True)
class _Inner:
    name: str
    strength: float = 1.0


@dataclass(frozen=True, kw_only=True)
class _Outer:
    prompt: str
    parts: tuple[_Inner, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _LaterInner(_Inner):
    weight: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _LaterOuter(_Outer):
    notes: list[str] = field(default_factory=list)
    mode: str | None = None


def test_added_fields_with_defaults_do_not_change_a_hash() -> None:
    before = _Outer(prompt="a", parts=(_Inner(name="b"),), tags={"k": "v"})
    after = _LaterOuter(prompt="a", parts=(_LaterInner(name="b"),), tags={"k": "v"})
    assert hash_values("1", before) == hash_values("1", after)


@pytest.mark.parametrize(
    "changed",
    [
        _Outer(prompt="b"),
        _Outer(prompt="a", parts=(_Inner(name="b"),)),
        _Outer(prompt="a", parts=(_Inner(name="b", strength=0.5),)),
        _Outer(prompt="a", tags={"k": "v"}),
        _LaterOuter(prompt="a", notes=["n"]),
        _LaterOuter(prompt="a", mode=""),
    ],
)
def test_values_that_differ_from_their_defaults_change_a_hash(changed: _Outer) -> None:
    assert hash_values("1", changed) != hash_values("1", _Outer(prompt="a"))


def test_the_scheme_and_the_order_of_values_are_hashed() -> None:
    hashes = {
        hash_values("1", "a", "b"),
        hash_values("2", "a", "b"),
        hash_values("1", "b", "a"),
        hash_values("1", "ab"),
    }
    assert len(hashes) == 4
