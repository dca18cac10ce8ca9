"""Rates of requests, in the memory of one ingress replica."""

import time
from collections.abc import Callable

WINDOW_SECONDS = 60.0
MOST_NAMES = 20_000
"""Number of names that are remembered, which bounds the memory to a few megabytes."""


class Rates:
    """A bucket of tokens for each name, which holds as many requests as are allowed in a minute.

    It stores one number for each name: the time at which the bucket is full again (the generic cell rate algorithm).
    Beyond `MOST_NAMES`, the name that was used the longest ago is forgotten, so that its bucket is full again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, name: str, per_minute: int) -> float:
        """Takes a token for one request.

        Args:
            name: name of the bucket.
            per_minute: number of requests that are allowed in a minute.

        Returns:
            0; or the seconds until there is a token, and then nothing was taken.
        """
        now = self._clock()
        full_at = max(now, self._full_at.pop(name, now))
        after = full_at + WINDOW_SECONDS / per_minute
        wait = after - now - WINDOW_SECONDS
        is_empty = wait > _ROUNDING_SECONDS
        self._full_at[name] = full_at if is_empty else after
        if len(self._full_at) > MOST_NAMES:
            del self._full_at[next(iter(self._full_at))]
        return wait if is_empty else 0.0


_ROUNDING_SECONDS = 1e-6
"""Error of the sums of times, so that a bucket of a whole number of tokens gives all of them."""
