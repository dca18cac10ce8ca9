"""Settings are validated, and converted into constraints on plans."""

import base64

import pytest

from serve_app.settings import parse_settings
from wan22_bridge.errors import ConfigurationError, NotReady


def test_parallel_degree_beyond_num_gpus_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match=r"generator: .*parallel_degree 8 needs num_gpus of at least 8, got 4"):
        parse_settings({"generator": {"num_gpus": 4, "parallel_degree": 8}})


def test_parallel_degree_is_a_constraint_on_plans() -> None:
    assert parse_settings({"generator": {"num_gpus": 4}}).generator.plan_constraints().parallel_degree is None
    assert (
        parse_settings({"generator": {"num_gpus": 4, "parallel_degree": 2}})
        .generator.plan_constraints()
        .parallel_degree
        == 2
    )


@pytest.mark.parametrize(
    ("host", "by_default"),
    [
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.1", True),
        ("192.168.0.5", True),
        ("gpu.example", True),
        ("localhost.example", True),
        ("", True),
        (None, True),
    ],
)
def test_keys_are_needed_except_on_a_loopback_address(host: str | None, by_default: bool) -> None:
    assert parse_settings({}).needs_keys(host) is by_default
    assert parse_settings({"allow_anonymous": True}).needs_keys(host) is False
    assert parse_settings({"allow_anonymous": False}).needs_keys(host) is True


_SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def test_webhooks_of_the_settings_may_be_private_and_have_a_secret_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOOK_SECRET", _SECRET)
    settings = parse_settings({"webhooks": {"urls": ["http://10.0.0.1:8080/hook"], "secret_env": "HOOK_SECRET"}})
    assert settings.webhooks.configured_secret() == _SECRET
    assert parse_settings({}).webhooks.configured_secret() is None


@pytest.mark.parametrize(
    "url", ["", "example.com", "ftp://example.com", "http://me:pw@example.com/", "http://x/" + "x" * 2048]
)
def test_a_receiver_that_no_webhook_can_be_sent_to_is_rejected(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"webhooks\.urls: .*the URL"):
        parse_settings({"webhooks": {"urls": [url]}})


@pytest.mark.parametrize("secret", [None, "hidden", "whsec_hidden", ""])
def test_a_secret_that_is_missing_or_invalid_is_reported_without_its_value(
    secret: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if secret is not None:
        monkeypatch.setenv("HOOK_SECRET", secret)
    settings = parse_settings({"webhooks": {"secret_env": "HOOK_SECRET"}})
    with pytest.raises(NotReady, match="HOOK_SECRET holds no secret") as caught:
        settings.webhooks.configured_secret()
    assert "hidden" not in caught.value.message
