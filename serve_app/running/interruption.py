"""Ctrl-C and SIGTERM."""

import signal
from queue import Empty, SimpleQueue

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Remembers Ctrl-C and SIGTERM until the main thread asks for them.

    A signal raises no exception, because an exception would interrupt a call to Ray. Ray would then print errors and
    restart what the call had begun.
    """

    def __init__(self) -> None:
        # SimpleQueue.put may be called in a signal handler; Event.set may not.
        self._received: SimpleQueue[None] = SimpleQueue()

    def listen(self) -> None:
        """Replaces the handlers of both signals."""
        for number in _SIGNALS:
            signal.signal(number, lambda _number, _frame: self.request())

    def request(self) -> None:
        """Acts as if a signal had arrived."""
        self._received.put(None)

    def ignore(self) -> None:
        """Makes the process ignore further signals."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for a signal.

        Args:
            seconds: the maximum time to wait; without it, waits for as long as it takes.

        Returns:
            Whether a signal has arrived. It stays true after the first signal.
        """
        try:
            self._received.get(timeout=seconds)
        except Empty:
            return False
        self.request()
        return True
