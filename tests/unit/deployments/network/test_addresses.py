"""URLs that could reach into the service's own network are rejected."""

from ipaddress import ip_address

import pytest

from deployments.network.addresses import UnusableUrl, check_url, is_public, mask_url

PRIVATE_HOSTS = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "017700000001",
    "0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "168.63.129.16",
    "[::ffff:168.63.129.16]",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[fec0::1]",
    "[fd00::1]",
    "[ff02::1]",
    "localhost",
    "LOCALHOST.",
    "db.localhost",
]


def _reject(url: str, *, allow_private: bool = False) -> UnusableUrl:
    with pytest.raises(UnusableUrl) as caught:
        check_url(url, allow_private=allow_private)
    assert len(str(caught.value)) < 300
    return caught.value


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_a_private_address_is_rejected_in_each_notation(host: str) -> None:
    error = _reject(f"http://{host}:8080/hook")
    assert error.is_private
    assert "private address" in str(error)
    check_url(f"http://{host}:8080/hook", allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "http://example.com:8080/hook?token=x#y",
        "https://8.8.8.8/",
        "https://134744072/",
        "https://[2606:4700::1111]/",
        "https://[::ffff:8.8.8.8]/",
        "https://[64:ff9b::808:808]/",
        "https://bücher.example/ü",
        "https://a_b.example./",
        "HTTPS://EXAMPLE.COM/",
    ],
)
def test_a_public_url_is_accepted(url: str) -> None:
    check_url(url, allow_private=False)


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "//example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "gopher://127.0.0.1:6379/_",
        "http:///hook",
        "http://",
        "http://user@example.com/",
        "http://user:secret@example.com/",
        "http://:@example.com/",
        "http://exam ple.com/",
        "http://example.com\\@127.0.0.1/",
        "http://%31%32%37.0.0.1/",
        "http://0177.0.0.1/",
        "http://①②⑦.⓪.⓪.①/",
        "http://xn--/",
        "http://..",
        "http://-/",
        "http://[fe80::1%25eth0]/",
        "http://[::1",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:x/",
        "http://example.com/\r\nX-Evil: 1",
        "http://example.com/\x00",
        f"http://{'a' * 254}.com/",
        f"http://example.com/{'a' * 2048}",
        "x" * 5_000_000,
    ],
)
def test_a_url_that_names_no_file_on_a_server_is_rejected(url: str, allow_private: bool) -> None:
    assert "secret" not in str(_reject(url, allow_private=allow_private))


def test_each_kind_of_special_address_is_private() -> None:
    for text in ("192.0.2.1", "198.18.0.1", "240.0.0.1", "2001:db8::1", "2001:0:7f00:1::", "64:ff9b:1::1"):
        assert not is_public(ip_address(text)), text
    for text in ("1.1.1.1", "2606:4700::1111", "2002:808:808::"):
        assert is_public(ip_address(text)), text


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://hooks.slack.com/services/T0/B0/hidden", "https://hooks.slack.com/…"),
        ("https://example.com:8443/a?token=hidden&y=?z#f", "https://example.com:8443/…"),
        ("https://example.com?hidden", "https://example.com/…"),
        ("https://example.com#hidden/?x", "https://example.com/…"),
        ("http://[2606:4700::1]:9000/hidden", "http://[2606:4700::1]:9000/…"),
        ("http://me:hidden@example.com/", "http://example.com"),
        ("HTTPS://EXAMPLE.COM/", "HTTPS://EXAMPLE.COM"),
        ("https://example.com", "https://example.com"),
        ("hook/hidden", "hook/…"),
        ("", ""),
    ],
)
def test_a_masked_url_shows_only_the_scheme_the_host_and_the_port(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_the_error_of_an_invalid_url_says_what_is_wrong_without_the_path() -> None:
    message = str(_reject("https://example.com/secret\x00"))
    assert message.startswith("is 'https://example.com/…', which is no URL: Invalid non-printable")
    assert "secret" not in message
