"""A signal while the service starts stops it without any message from Ray."""

import signal
from pathlib import Path

import pytest

from tests.service import Service, wait_until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_ends_every_process_silently(number: signal.Signals, tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.launch(verbose=False)
    wait_until(lambda: len(service.processes()) > 1, seconds=60)
    service.check_silent_stop(number)
