"""Rates of requests in the memory of a replica."""

import pytest

from serve_app.api.access import rates
from serve_app.api.access.rates import Rates
from tests.unit.conftest import Clock


def test_a_minutes_requests_may_come_at_once_and_then_one_at_a_time(clock: Clock) -> None:
    counted = Rates(clock)
    assert [counted.take("a", 30) for _ in range(30)] == [0.0] * 30
    assert counted.take("a", 30) == pytest.approx(2)
    clock.now += 1.5
    assert counted.take("a", 30) == pytest.approx(0.5)
    clock.now += 0.5
    assert counted.take("a", 30) == 0
    assert counted.take("a", 30) == pytest.approx(2)
    assert counted.take("b", 30) == 0


def test_an_idle_client_gets_no_more_than_a_minutes_requests(clock: Clock) -> None:
    counted = Rates(clock)
    counted.take("a", 7)
    clock.now += 3600
    assert [counted.take("a", 7) > 0 for _ in range(8)] == [False] * 7 + [True]


def test_the_memory_is_bounded_and_keeps_those_who_send_most(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_NAMES", 3)
    counted = Rates(clock)
    assert counted.take("flooder", 1) == 0
    for number in range(100):
        counted.take(f"other {number}", 1)
        assert counted.take("flooder", 1) > 0
    assert len(counted._full_at) == 3
