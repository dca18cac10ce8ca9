"""Calls in threads that outlast their requests.

A client that disconnects cancels its request, but nothing ends a thread. Its place and the memory of the request's body
stay counted until the call has ended; otherwise clients that send a request and disconnect at once would start any
number of threads.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from serve_app.api.http.slow_clients import hold_body

Result = TypeVar("Result")

_running: set[asyncio.Task[object]] = set()
"""The tasks that wait for threads. The event loop alone would not keep them."""


async def run_to_end(call: Callable[[], Result], limiter: CapacityLimiter | None = None) -> Result:
    """Runs a call in a thread. A request that is cancelled while it waits for a thread makes no call.

    Args:
        call: the call. It runs to its end, also after the request was cancelled.
        limiter: limit on the threads; by default that of all handlers without a limit of their own.
    """
    places, place = limiter or to_thread.current_default_thread_limiter(), object()
    await places.acquire_on_behalf_of(place)
    release_body = hold_body()

    async def run() -> Result:
        try:
            return await to_thread.run_sync(call, limiter=CapacityLimiter(1))
        finally:
            places.release_on_behalf_of(place)
            release_body()

    task = asyncio.create_task(run())
    _running.add(task)
    task.add_done_callback(_running.discard)
    return await asyncio.shield(task)
