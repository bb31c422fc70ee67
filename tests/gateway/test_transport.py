"""Requests over real sockets, and each kind of failure."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.delivery.connection import MAX_BODY as LARGEST
from gateway.delivery.transport import HttpTransport
from gateway.errors import TransportError
from gateway.http import Request, Response

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answering) -> AsyncIterator[str]:
    """Serve *answer* on a free loopback port, yield its URL, and end open requests."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    finally:
        running.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    """Return a transport with a timeout of half a second."""
    made = HttpTransport(timeout=0.5, connections=2)
    yield made
    await made.close()


def to(url: str) -> Request:
    """Return a request."""
    return Request(method="POST", url=f"{url}/a%20b?x=1", headers={"x-key": "k"}, body=b"{}")


async def test_a_response_is_returned(transport: HttpTransport) -> None:
    """A request is sent unchanged; status, relevant headers and body are returned."""
    seen = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2))
        writer.write(
            b"HTTP/1.1 429 Slow Down\r\nretry-after: 7\r\nset-cookie: a=b\r\n"
            b"content-type: text/plain\r\ncontent-length: 4\r\n\r\nwait"
        )
        await writer.drain()

    async with server(answer) as url:
        response = await transport.send(to(url))
    assert response.status == 429
    assert response.headers == {"retry-after": "7", "content-type": "text/plain"}
    assert response.body == b"wait"
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a%20b?x=1 HTTP/1.1\r\n")
    assert b"x-key: k" in head
    assert body == b"{}"


async def test_a_closed_port_is_a_connect_failure(
    transport: HttpTransport, unused_tcp_port: int
) -> None:
    """A closed port is reported as a connect failure, not as a timeout."""
    with pytest.raises(TransportError) as caught:
        await transport.send(to(f"http://127.0.0.1:{unused_tcp_port}"))
    assert caught.value.cause == "connect"


async def test_silence_is_a_timeout(transport: HttpTransport) -> None:
    """A response that is not complete in time is a timeout, and the transport stays usable."""
    parts = [b"", b"HTTP/1.1 200 OK"]

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(parts.pop(0))
        await writer.drain()
        await asyncio.Event().wait()

    async with server(answer) as url:
        for _ in range(2):
            began = asyncio.get_running_loop().time()
            with pytest.raises(TransportError) as caught:
                await transport.send(to(url))
            assert caught.value.cause == "timeout"
            assert 0.5 <= asyncio.get_running_loop().time() - began < 2


@pytest.mark.parametrize(
    ("said", "cause"),
    [(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "protocol"),
     (b"", "reset"), (b"HTTP/1.1 2", "reset"), (b"nonsense\r\n\r\n", "protocol")],
)  # fmt: skip
async def test_a_broken_response_is_a_failure(
    transport: HttpTransport, said: bytes, cause: str
) -> None:
    """A connection that closes early, or sends no HTTP, is a failure with its cause."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()

    async with server(answer) as url:
        with pytest.raises(TransportError) as caught:
            await transport.send(to(url))
    assert caught.value.cause in {cause, "protocol"}


async def test_an_endless_response_is_cut(transport: HttpTransport) -> None:
    """A response body is read only up to a limit."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n")
        writer.write(b"x" * 1_000_000)
        await writer.drain()

    async with server(answer) as url:
        response = await transport.send(to(url))
    assert 0 < len(response.body) <= LARGEST


async def test_redirects_are_not_followed(transport: HttpTransport) -> None:
    """A redirect is not followed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere.example/\r\n"
            b"content-length: 0\r\n\r\n"
        )
        await writer.drain()

    async with server(answer) as url:
        response = await transport.send(to(url))
    assert response.status == 302
    assert response.headers["location"] == "http://elsewhere.example/"


async def test_a_cancelled_task_stays_cancelled(transport: HttpTransport) -> None:
    """A cancellation is not reported as a timeout."""
    waiting = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        waiting.set()
        await asyncio.Event().wait()

    async with server(answer) as url:
        task = asyncio.get_running_loop().create_task(transport.send(to(url)))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_silence_after_an_idle_while_is_a_timeout_too(transport: HttpTransport) -> None:
    """The timeout works after the transport was idle."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async with server(answer) as url:
        assert (await transport.send(to(url))).status == 200
        rested = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.2, rested.set_result, None)
        await rested  # longer than the interval of the timeout checks, a tenth of the half second
        with pytest.raises(TransportError) as caught:
            await asyncio.wait_for(transport.send(to(url)), 10)
    assert caught.value.cause == "timeout"


async def test_one_timer_watches_all_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests time out, and are followed by another at once, one timer runs."""
    loop, armed, ended = asyncio.get_running_loop(), [0], [0]
    transport, finished = HttpTransport(timeout=0.05, connections=1), asyncio.Event()
    call_later = loop.call_later

    def counted(delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        armed[0] += 1
        return call_later(delay, fired, call)

    def fired(call: Callable[[], None]) -> None:
        armed[0] -= 1
        call()
        assert armed[0] <= 1

    async def answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(answer) as url:

        def on_end(end: Response | TransportError) -> None:
            assert isinstance(end, TransportError)
            ended[0] += 1
            if ended[0] == 8:
                finished.set()
            else:
                transport.post(to(url), on_end)

        monkeypatch.setattr(loop, "call_later", counted)
        transport.post(to(url), on_end)
        await finished.wait()
        await transport.close()
    assert armed[0] <= 1
