"""The times of further attempts."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from deployments.webhooks.retrying import DELAYS, MAX_RETRY_AFTER_SECONDS, next_delay


def test_delays_grow_for_three_days_and_then_end() -> None:
    assert list(DELAYS) == sorted(DELAYS)
    assert 3 * 24 * 3600 < sum(DELAYS) < 4 * 24 * 3600
    for attempts, delay in enumerate(DELAYS, 1):
        found = [next_delay(attempts) for _ in range(20)]
        assert all(value is not None and delay <= value <= 1.2 * delay for value in found)
        assert len(set(found)) > 1, "receivers that failed together are not all called together"
    assert next_delay(len(DELAYS) + 1) is None


def _delay(retry_after: str) -> float:
    found = next_delay(1, retry_after)
    assert found is not None
    return found


def test_a_receiver_may_ask_for_a_longer_delay_within_a_limit() -> None:
    assert _delay(" 600 ") == 600
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    assert 590 < _delay(date) <= 600
    for too_long in ("999999", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"):
        assert _delay(too_long) == MAX_RETRY_AFTER_SECONDS
    assert next_delay(len(DELAYS) + 1, "600") is None


@pytest.mark.parametrize(
    "retry_after",
    [
        "",
        "1",
        "-5",
        "soon",
        "1e9",
        "inf",
        "nan",
        "٣٠٠",
        "Sat, 01 Jan 2000 00:00:00 GMT",
        "Mon, 99 Jan 2000",
        "Mon, 01 Jan 2024 00:00:00 +99999999999999999",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "\xff",
    ],
)
def test_a_shorter_or_unreadable_delay_is_ignored(retry_after: str) -> None:
    assert 5 <= _delay(retry_after) <= 6
