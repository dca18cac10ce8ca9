"""The decoders of this process, and the line of files that wait for one."""

import atexit
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wan22_bridge.errors import NotReady
from wan22_bridge.media.decoder import Decoder
from wan22_bridge.media.sandbox import Limits

MAX_DECODERS = 2
"""Maximum files that this process has decoded at the same time."""
MAX_WAITING = 16
"""Maximum uploads that wait for a decoder in threads of their own."""
MAX_WAIT_SECONDS = 60
"""Maximum time for which an upload waits for a decoder."""


class Decoders:
    """Decoders that start on demand and stay for the next file."""

    def __init__(self) -> None:
        """Starts nothing yet."""
        self._free = threading.Semaphore(MAX_DECODERS)
        self._idle: list[Decoder] = []
        self._waiting = 0
        self._lock = threading.Lock()
        """Guards `_waiting`."""

    def decode(
        self, source: int, task: str, limits: Limits, *, patient: bool = False, frame_bytes: int = 0, **request: Any
    ) -> Iterator[bytes | dict[str, Any]]:
        """Decodes one file. Yields the frames, if the task has any, and at last the result.

        Args:
            source: Descriptor of the file, at its beginning.
            task: Name of the task in `wan22_bridge.media.decoder_program`.
            limits: Limits on this file.
            patient: Whether to wait for a decoder for as long as needed, as a job does.
            frame_bytes: Size of each frame.
            **request: Arguments of the task. `param` names the request field, for errors.

        Raises:
            InvalidRequest: The file is invalid, or it exceeds a limit.
            NotReady: Too many files wait for a decoder, none can be started, or it was killed.
        """
        with self._lease(patient) as decoder:
            yield from decoder.decode(source, {"task": task, **request}, limits, frame_bytes)

    @property
    def waiting(self) -> int:
        """Number of uploads that wait for a decoder."""
        return self._waiting

    def close(self) -> None:
        """Ends the idle decoders."""
        while self._idle:
            self._idle.pop().end()

    @contextmanager
    def _lease(self, patient: bool) -> Iterator[Decoder]:
        if patient:
            self._free.acquire()
        else:
            self._wait()
        decoder = None
        try:
            decoder = self._take()
            yield decoder
        finally:
            if decoder is not None and decoder.is_usable:
                self._idle.append(decoder)
            elif decoder is not None:
                decoder.end()
            self._free.release()

    def _wait(self) -> None:
        """Waits for a free place in the line."""
        if self._free.acquire(blocking=False):
            return
        with self._lock:
            if self._waiting >= MAX_WAITING:
                raise busy(f"{self._waiting} files wait already")
            self._waiting += 1
        try:
            if not self._free.acquire(timeout=MAX_WAIT_SECONDS):
                raise busy(f"this one waited for {MAX_WAIT_SECONDS} seconds")
        finally:
            with self._lock:
                self._waiting -= 1

    def _take(self) -> Decoder:
        """Returns an idle decoder that still lives, or starts one."""
        with contextlib.suppress(IndexError):
            while True:
                decoder = self._idle.pop()
                if decoder.is_usable:
                    return decoder
                decoder.end()
        return Decoder()


_decoders = Decoders()
atexit.register(_decoders.close)


def decoders() -> Decoders:
    """Returns the decoders of this process, which end with it."""
    return _decoders


def busy(reason: str) -> NotReady:
    """Returns the error for a file that can't be decoded now."""
    return NotReady(
        f"The service has too many files to decode at once: {reason}.",
        code="decoders_busy",
        suggestions=["Send the request again in some seconds."],
    )
