"""Read the live tail and poll the overview, as an open console does.

Run as ``python -m tests.bench.console_user URL`` with the URL of the admin API. Each line on
standard input opens or closes the console, in turn, and is answered with one line.
"""

import asyncio
import contextlib
import sys
from contextlib import AsyncExitStack

import aiohttp

FRESH = 2.0
"""Seconds between two requests for the overview, as in the console."""


async def poll(client: aiohttp.ClientSession) -> None:
    """Request the overview repeatedly."""
    while True:
        async with client.get("overview") as page:
            await page.read()
        await asyncio.sleep(FRESH)


async def follow(tail: aiohttp.ClientResponse) -> None:
    """Read the live tail."""
    async for _ in tail.content:
        pass


async def once(client: aiohttp.ClientSession, told: asyncio.StreamReader) -> None:
    """Keep the console open until the next line arrives."""
    async with AsyncExitStack() as stack:
        tail = await stack.enter_async_context(client.get("tail"))
        both = asyncio.gather(follow(tail), poll(client))
        print("open", flush=True)
        await told.readline()
        both.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await both
    print("closed", flush=True)


async def main() -> None:
    """Open and close the console once per pair of lines."""
    told = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    forever = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(f"{sys.argv[1]}/", timeout=forever) as client:
        print("watching", flush=True)
        while await told.readline():
            await once(client, told)


if __name__ == "__main__":
    asyncio.run(main())
