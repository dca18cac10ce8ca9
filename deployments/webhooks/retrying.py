"""The times of further attempts, from the recommendations of the Standard Webhooks specification."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MINUTE, _HOUR = 60.0, 3600.0
DELAYS = (
    5.0,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
"""Seconds before the second attempt, the third one, and so on. The first attempt has no delay."""
MAX_RETRY_AFTER_SECONDS = 24 * _HOUR
"""Longest delay that a receiver can ask for."""
_JITTER = 0.2
"""Maximum random extension of a delay, as a share of it, so that webhooks of one outage do not return all at once."""


def next_delay(attempts: int, retry_after: str | None = None) -> float | None:
    """Returns the seconds until the next attempt, or None if no attempt is left.

    Args:
        attempts: number of attempts so far.
        retry_after: the receiver's header of this name, with which it may ask for a longer delay.
    """
    if attempts > len(DELAYS):
        return None
    delay = DELAYS[attempts - 1] * random.uniform(1, 1 + _JITTER)
    return max(delay, min(_parse(retry_after), MAX_RETRY_AFTER_SECONDS))


def _parse(retry_after: str | None) -> float:
    """Returns the seconds that a `retry-after` header asks for: a number, or the time until a date. Else 0."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for a year or a time zone beyond the range of datetime
        return 0.0
    return (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
