"""Bare programs to compare with: a server, a client, and a sink for deliveries.

Run as ``python -m tests.bench.floors echo|sink|client|proxy ...``. Servers print their port; the
client prints its number of posts.
"""

import asyncio
import ssl
import sys

import aiohttp
import orjson
import uvloop
from aiohttp import web

WARM_UP = 400
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    b'content-length: 15\r\n\r\n{"status":true}'
)


class Sink(asyncio.Protocol):
    """Answers every request with 200; reads only its length."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            low = head.lower()
            at = low.find(b"content-length:")
            length = int(low[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._transport.write(ANSWER)  # type: ignore[attr-defined]  # it is a stream


async def sink(port: str = "0", certificate: str = "") -> None:
    """Serve the sink for ever, on a free port unless *port* is given; with TLS by *certificate*."""
    tls = None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", int(port), ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def echo() -> None:
    """Serve a bare aiohttp application that echoes JSON, for ever."""

    async def handle(request: web.Request) -> web.Response:
        payload = orjson.loads(await request.read())
        return web.Response(
            body=orjson.dumps(payload), headers={"content-type": "application/json"}
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def proxy(port: str) -> None:
    """Serve a bare aiohttp application that passes calls to *port*, and streams the answers."""
    own = frozenset({"host", "connection", "content-length", "transfer-encoding"})
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            headers = {k: v for k, v in request.headers.items() if k.lower() not in own}
            async with session.request(request.method, request.path_qs, headers=headers) as found:
                answer = web.StreamResponse(status=found.status, headers=found.headers)
                await answer.prepare(request)
                async for piece in found.content.iter_any():
                    await answer.write(piece)
                await answer.write_eof()
                return answer

        runner = web.ServerRunner(web.Server(handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()


async def client(port: str, number: str, lanes: int = 8) -> None:
    """Post with a bare aiohttp client, *lanes* at a time: a warm-up, then *number* when asked."""
    count = int(number)
    body = b'{"uid":"1","name":"Product Viewed","properties":{"product_id":"100500"}}'
    headers = {"content-type": "application/json", "authorization": "Bearer k"}
    url = f"http://127.0.0.1:{port}/event/track"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=lanes)) as session:

        async def lane(posts: int) -> None:
            for _ in range(posts):
                async with session.post(url, data=body, headers=headers) as answer:
                    await answer.read()

        for posts in (WARM_UP, count):
            await asyncio.gather(*(lane(posts // lanes) for _ in range(lanes)))
            print(posts, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    programs = {"echo": echo, "sink": sink, "client": client, "proxy": proxy}
    uvloop.run(programs[what](*numbers))
