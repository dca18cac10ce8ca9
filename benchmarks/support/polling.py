"""Clients that poll a URL at a steady rate, in a process of their own.

They write requests and read responses as bytes, so that the clients themselves, which share the machine with the
service, cost next to nothing.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


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
    target = urlsplit(url)
    request = f"GET {target.path} HTTP/1.1\r\nhost: {target.netloc}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    due = loop.time()
    while True:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, *headers = head.lower().split(b"\r\n")
        if b" 200 " not in status:
            raise SystemExit(f"{url} answered {status.decode()}")
        [length] = [int(line.partition(b":")[2]) for line in headers if line.startswith(b"content-length:")]
        await reader.readexactly(length)
        due = max(due + 1 / per_second, loop.time())
        await asyncio.sleep(due - loop.time())


async def _main(url: str, clients: int, per_second: float) -> None:
    await asyncio.gather(*(_poll(url, per_second) for _ in range(clients)))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
