"""Receivers of webhooks are checked before their URLs are stored."""

import pytest

from deployments.webhooks.receivers import check_receiver
from wan22_bridge.errors import InvalidRequest


@pytest.mark.parametrize(
    ("url", "problem", "suggestion"),
    [
        ("http://10.0.0.1/hook", "private address '10.0.0.1'", "webhooks.allow_private"),
        ("http://user:secret@example.com/", "a user name or a password", "signature"),
        ("ftp://example.com/", "the scheme 'ftp'", "https://example.com/hook"),
    ],
)
def test_the_error_of_a_receiver_names_the_field_and_the_fix(url: str, problem: str, suggestion: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_receiver(url, allow_private=False)
    error = caught.value
    assert (error.code, error.param) == ("webhook_url_invalid", "webhook_url")
    assert error.message.startswith("webhook_url has ")
    assert problem in error.message
    assert suggestion in error.suggestions[0]
    check_receiver("https://example.com/hook", allow_private=False)
    check_receiver("http://10.0.0.1/hook", allow_private=True)
