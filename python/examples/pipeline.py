"""Fetch and digest: an aiohttp client fetches documents from a local aiohttp server, and the sidecar digests them.

    pip install 'ringlane[web]'
    python pipeline.py

The asyncio loop never hashes: each body goes into the lane's arena, what arrives in one turn of the loop travels as one batch,
and the sidecar's threads digest it while the loop fetches on.
"""

import asyncio
import hashlib
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import ringlane
from aiohttp import web

Digest = Callable[[bytes], Awaitable[bytes]]

CONNECTIONS = 32


@asynccontextmanager
async def server(documents: list[bytes]) -> AsyncIterator[str]:
    """A server of these documents on loopback; gives its address."""

    async def document(request: web.Request) -> web.Response:
        return web.Response(body=documents[int(request.match_info["number"])])

    app = web.Application()
    app.router.add_get("/{number:\\d+}", document)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


async def digests(address: str, count: int, digest: Digest) -> list[bytes]:
    """Fetches documents 0 to `count`, and has each digested as soon as it is there."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def one(number: int) -> bytes:
            async with session.get(f"{address}/{number}") as response:
                response.raise_for_status()
                body = await response.read()
            return await digest(body)

        return list(await asyncio.gather(*map(one, range(count))))


async def main(count: int = 200, size: int = 100_000) -> None:
    """Documents of `size` bytes, through the sidecar; checked against hashlib."""
    rng = random.Random(1)
    documents = [rng.randbytes(size) for _ in range(count)]
    async with server(documents) as address:
        with ringlane.connect() as client, client.open("digests", algorithm="sha256") as lane:
            found = await digests(address, count, lane.digest_async)
    assert found == [hashlib.sha256(body).digest() for body in documents]
    print(f"{count} documents of {size} bytes fetched and digested; the last is {found[-1].hex()}")


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
