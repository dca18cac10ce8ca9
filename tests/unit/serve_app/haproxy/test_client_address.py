import pytest

from serve_app.haproxy.client_address import read_client

_SECRET = "secret"


def _headers(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"example"), *((b"x-wan22-client", value.encode()) for value in values)]


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAN22_PROXY_SECRET", _SECRET)


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::1"])
def test_the_address_that_haproxy_sent_is_used(address: str) -> None:
    assert read_client(_headers(f"{_SECRET} {address}")) == address


@pytest.mark.parametrize(
    "value", ["192.0.2.7", "wrong 192.0.2.7", _SECRET, f"{_SECRET} ", " 192.0.2.7", "", "ü 192.0.2.7"]
)
def test_a_header_without_the_secret_is_ignored(value: str) -> None:
    assert read_client(_headers(value)) is None


def test_requests_that_do_not_come_through_haproxy_have_no_such_address() -> None:
    assert read_client(_headers()) is None


@pytest.mark.parametrize("secret", ["", None])
def test_without_a_secret_no_header_is_trusted(monkeypatch: pytest.MonkeyPatch, secret: str | None) -> None:
    if secret is None:
        monkeypatch.delenv("WAN22_PROXY_SECRET")
    else:
        monkeypatch.setenv("WAN22_PROXY_SECRET", secret)
    assert read_client(_headers(" 192.0.2.7")) is None
