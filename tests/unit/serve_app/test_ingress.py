"""Warnings of the ingress when it starts."""

import platform

import pytest

from serve_app.ingress import warn_without_seccomp


def test_a_machine_without_seccomp_is_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    warn_without_seccomp()
    assert caplog.records == []
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    warn_without_seccomp()
    [record] = caplog.records
    assert (record.levelname, record.__dict__["action"]) == ("WARNING", "no_seccomp")
