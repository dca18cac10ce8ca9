"""Clients that poll a URL at a steady rate, in a process of their own."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx


@contextmanager
def polling(url: str, *, clients: int, per_second: float) -> Iterator[None]:
    """Polls while the context is open.

    Args:
        url: what each client reads.
        clients: number of clients, each with a connection of its own.
        per_second: rate of each client.
    """
    process = subprocess.Popen([sys.executable, __file__, url, str(clients), str(per_second)])
    try:
        yield
        if process.poll() is not None:
            raise SystemExit(f"The clients that poll {url} have failed.")
    finally:
        process.terminate()
        process.wait()


async def _poll(url: str, per_second: float) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    async with httpx.AsyncClient(timeout=60) as client:
        while True:
            (await client.get(url)).raise_for_status()
            due = max(due + 1 / per_second, loop.time())
            await asyncio.sleep(due - loop.time())


async def _main(url: str, clients: int, per_second: float) -> None:
    await asyncio.gather(*(_poll(url, per_second) for _ in range(clients)))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
