"""Hundreds of WebSockets that follow one job, and the delay of each message."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx
import websockets

_CONNECTING = 25
"""Number of sockets that connect at the same time."""
_WAIT_SECONDS = 120.0


async def follow_with_sockets(url: str, fields: Mapping[str, Any], count: int) -> tuple[str, list[list[float]]]:
    """Submits a job after `count` sockets have connected, and reads until each has received the job's end.

    Returns:
        The job's id; and for each socket, the times at which it received the job's `task_update` messages.
    """
    connecting = asyncio.Semaphore(_CONNECTING)
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    ready = [asyncio.Event() for _ in range(count)]

    async def follow(index: int) -> list[float]:
        times: list[float] = []
        async with connecting:
            socket = await websockets.connect(
                url.replace("http://", "ws://") + "/ws", open_timeout=_WAIT_SECONDS, ping_interval=None
            )
        async with socket:
            while json.loads(await socket.recv())["type"] != "queue_update":  # the last part of the present state
                continue
            ready[index].set()
            async for text in socket:
                received = time.time()
                message = json.loads(text)
                if message["type"] == "task_update" and message["task_id"] == await started:
                    times.append(received)
                    if message["status"] in ("completed", "failed", "cancelled"):
                        break
        return times

    following = [asyncio.create_task(follow(index)) for index in range(count)]
    async with asyncio.timeout(_WAIT_SECONDS):
        await asyncio.gather(*(event.wait() for event in ready))
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            answer = await client.post("/api/v1/generation/submit", json=dict(fields))
        started.set_result(answer.raise_for_status().json()["task_id"])
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            return await started, list(await asyncio.gather(*following))
    except TimeoutError:
        for task in following:
            task.cancel()
        raise SystemExit("A socket did not receive the end of the job.") from None
