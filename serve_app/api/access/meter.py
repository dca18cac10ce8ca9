"""Counts of the requests and of the open connections of each client, in the memory of one ingress replica."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast

from starlette.requests import HTTPConnection
from starlette.types import Scope

from deployments.jobs.limits import LimitExceeded
from serve_app.api.access.addresses import find_address
from serve_app.api.access.callers import Caller
from serve_app.api.access.rates import Rates
from serve_app.settings import LimitSettings

_Open = Literal["open_sockets", "open_streams", "open_downloads", "open_uploads"]
"""Limits on what a client has open."""
_RETRY_SECONDS = 10
"""Time after which a client whose open connections are too many may try again."""


class Meter:
    """Counts what each key and each address does. All replicas of the ingress share a limit in equal parts."""

    def __init__(self, limits: LimitSettings, replicas: int) -> None:
        """Stores the limits.

        Args:
            limits: the service's limits.
            replicas: number of the ingress's replicas.
        """
        self._limits, self._replicas = limits, replicas
        self._rates = Rates()
        self._open: Counter[str] = Counter()

    def count_request(self, scope: Scope) -> None:
        """Counts a request.

        Raises:
            LimitExceeded: the client sends requests too fast.
        """
        # Requests that end jobs have buckets of their own: a client that polls too fast can still cancel.
        ends = scope["type"] == "http" and (scope["method"] == "DELETE" or scope["path"].endswith("/cancel"))
        for who, limit in self._find_limits(scope, "requests_per_minute"):
            seconds = math.ceil(self._rates.take(f"{who} ends" if ends else who, self._share(limit)))
            if seconds:
                raise LimitExceeded(
                    f"The limit requests_per_minute is {limit}{self._describe_share()}: this client sends more. Try "
                    f"again in {seconds} s.",
                    param="requests_per_minute",
                    suggestions=["Poll less often, or follow the job with Server-Sent Events or a WebSocket."],
                    retry_after_seconds=seconds,
                )

    @contextmanager
    def open(self, scope: Scope, name: _Open) -> Iterator[None]:
        """Counts a connection that stays open, until the context ends.

        Raises:
            LimitExceeded: the client has too many of them.
        """
        counted = []
        for who, limit in self._find_limits(scope, name):
            if self._open[f"{who} {name}"] >= self._share(limit):
                raise LimitExceeded(
                    f"The limit {name} is {limit}{self._describe_share()}: this client has as many. Try again in "
                    f"{_RETRY_SECONDS} s.",
                    param=name,
                    suggestions=["Close a connection that you do not need."],
                    retry_after_seconds=_RETRY_SECONDS,
                )
            counted.append(f"{who} {name}")
        self._open.update(counted)
        try:
            yield
        finally:
            self._open -= Counter(counted)  # also drops the names without connections

    def _find_limits(self, scope: Scope, name: str) -> Iterator[tuple[str, int]]:
        """Yields who is counted, and the limit: the key and the address, or the address alone for callers without a
        key. A key whose limit differs from the service's is not counted for its address.

        Where keys are on, callers without one are counted by themselves: they can't use up what keys of their address
        may do.
        """
        caller: Caller | None = scope.get("state", {}).get("caller")
        is_anonymous = caller is None or caller.has_link
        common: int | None = getattr(self._limits, name)
        own = common
        if caller is not None and caller.key_id is not None:
            own = getattr(caller.account.limits, name)
            if own is not None:
                yield f"key:{caller.key_id}", own
        if common is not None and own == common:
            yield f"{'anonymous' if is_anonymous else 'address'}:{find_address(scope)}", common

    def _share(self, limit: int) -> int:
        return math.ceil(limit / self._replicas)

    def _describe_share(self) -> str:
        return f", over {self._replicas} processes" if self._replicas > 1 else ""


def meter_of(connection: HTTPConnection) -> Meter:
    """Returns the meter of the application that serves a connection."""
    return cast(Meter, connection.app.state.meter)
