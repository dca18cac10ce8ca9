"""Progress of a fetch, which other threads can read and stop."""

import threading
import time
from collections import deque

_SPEED_SECONDS = 10.0
"""Length of the period over which the speed is averaged."""


class FetchStopped(Exception):
    """The caller stopped the fetch. The bytes received so far stay on the disk."""


class FetchProgress:
    """Progress of one fetch. Its methods and properties are safe to use from any thread."""

    def __init__(self) -> None:
        self.done_bytes = 0
        """Bytes on the disk, including bytes whose checksum is not verified yet."""
        self.total_bytes: int | None = None
        """Size of the model in bytes; None until the hub has answered."""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._history: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def stop(self) -> None:
        """Makes the fetch raise `FetchStopped` soon. A later fetch resumes from the bytes on the disk."""
        self._stop.set()

    def raise_if_stopped(self) -> None:
        """Raises `FetchStopped` if the fetch was stopped."""
        if self._stop.is_set():
            raise FetchStopped

    def wait(self, seconds: float) -> None:
        """Waits, and raises `FetchStopped` as soon as the fetch is stopped."""
        self._stop.wait(seconds)
        self.raise_if_stopped()

    def add(self, count: int) -> None:
        """Adds received bytes; a negative count takes back bytes that have to be fetched again.

        Raises:
            FetchStopped: The fetch was stopped.
        """
        self.raise_if_stopped()
        now = time.monotonic()
        with self._lock:
            self.done_bytes += count
            self._history.append((now, self.done_bytes))
            while now - self._history[0][0] > _SPEED_SECONDS and len(self._history) > 2:
                self._history.popleft()

    @property
    def bytes_per_second(self) -> float:
        """Speed over the last seconds."""
        with self._lock:
            (since, before), (_, done) = self._history[0], self._history[-1]
        return max(0.0, (done - before) / max(1e-3, time.monotonic() - since))

    @property
    def eta_seconds(self) -> float | None:
        """Estimated seconds until the fetch is complete; None while the size or the speed is unknown."""
        speed = self.bytes_per_second
        return (self.total_bytes - self.done_bytes) / speed if speed > 0 and self.total_bytes is not None else None
