"""Signals raise nothing and are remembered until the service can stop."""

import os
import signal
from collections.abc import Iterator

import pytest

from serve_app.running.interruption import Interruption

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield Interruption()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_nothing_and_is_remembered(interruption: Interruption, number: signal.Signals) -> None:
    interruption.listen()
    assert not interruption.wait(0)
    os.kill(os.getpid(), number)
    assert interruption.wait(10)
    assert interruption.wait()


def test_a_request_acts_like_a_signal(interruption: Interruption) -> None:
    interruption.request()
    assert interruption.wait(0)


@pytest.mark.parametrize("number", SIGNALS)
def test_ignored_signals_have_no_effect(interruption: Interruption, number: signal.Signals) -> None:
    interruption.listen()
    interruption.ignore()
    os.kill(os.getpid(), number)
    assert not interruption.wait(0.01)
