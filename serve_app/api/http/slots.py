"""Places for requests that stay open, so that one kind of them never takes all slots of an ingress replica."""

from collections.abc import Iterator
from contextlib import contextmanager

from wan22_bridge.errors import NotReady


class Slots:
    """Places of one process for one kind of request."""

    def __init__(self, places: int, kind: str, code: str) -> None:
        """Makes free places.

        Args:
            places: their number.
            kind: the requests that take them, as a plural, for the error.
            code: code of the error.
        """
        self._places, self._kind, self._code = places, kind, code
        self._taken = 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Takes a place while the context is open.

        Raises:
            NotReady: all places are taken.
        """
        if self._taken >= self._places:
            raise NotReady(
                f"{self._places} {self._kind} are open, which is the limit.",
                code=self._code,
                suggestions=["Try again after a few seconds.", "Close those that are not needed."],
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
