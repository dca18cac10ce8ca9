"""A failed start is reported in one sentence."""

from typing import Any

import pytest
from ray.exceptions import RayError

from serve_app.running import service
from serve_app.running.interruption import Interruption


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SystemExit(), "Ray Serve could not start. Start the service with --verbose to see why."),
        (RayError("no GCS"), "Ray Serve could not start: no GCS. Start the service with --verbose to see why."),
    ],
)
def test_a_failed_start_is_reported(error: BaseException, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def deploy(_config: dict[str, Any]) -> None:
        raise error

    monkeypatch.setattr(service, "_start_ray", lambda *_: "localhost:8265")
    monkeypatch.setattr(service, "_deploy", deploy)
    monkeypatch.setattr(service, "stop_serve", lambda: None)
    monkeypatch.setattr(service, "stop_ray", lambda: None)
    monkeypatch.setattr(Interruption, "ignore", lambda _: None)
    said: list[str] = []
    assert service.run({}, Interruption(), verbose=False, say=lambda _: None, say_error=said.append) == 1
    assert said == [message]
