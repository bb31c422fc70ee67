"""Requests over real sockets to one destination."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
from yarl import URL

from gateway.errors import TransportError
from gateway.exchange import Request, Response
from gateway.headers import check_final, end_to_end

KEPT = ("content-type", "retry-after", "x-ratelimit-reset", "location")
"""Headers of an answer that a verdict or a person may need."""
LARGEST = 64 * 1024
"""Bytes of an answer that are read; a vendor's answer to an event is short."""
LARGEST_WHOLE = 1024 * 1024
"""Bytes of an answer that are read where it is handed back to a client."""
REWRITTEN = frozenset({"content-length", "content-encoding"})
"""Headers that no longer hold of a body that was read and inflated."""

REMEMBERED = 256
"""URLs kept in parsed form; forwarded ones have queries of the senders' own."""


class Transport(Protocol):
    """Whatever can carry a request to a destination."""

    async def send(self, request: Request, *, whole: bool = False) -> Response:
        """Return the answer to *request*, or raise `TransportError`.

        Args:
            request: to be sent.
            whole: keep every header of the answer, and more of its body.
        """

    async def close(self) -> None:
        """Close every connection."""


class HttpTransport:
    """HTTP/1.1 with kept connections; one per destination, so that none waits for another.

    Args:
        timeout: seconds from sending to the end of the answer.
        connections: the most that may be open at once.
    """

    def __init__(self, *, timeout: float, connections: int) -> None:
        self._timeout = timeout
        self._watchdog = Watchdog(timeout)
        connector = aiohttp.TCPConnector(
            limit=connections, ttl_dns_cache=300, keepalive_timeout=60, enable_cleanup_closed=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
        )
        self._urls: dict[str, URL] = {}

    async def send(self, request: Request, *, whole: bool = False) -> Response:
        """Return the answer to *request*, the *whole* of it or what a verdict needs.

        Redirects are not followed: an event goes where the configuration says.

        Raises:
            TransportError: no whole answer came in time.
        """
        try:
            with self._watchdog:
                answer = await self._session.request(
                    request.method,
                    self._url(request.url),
                    data=request.body,
                    headers=request.headers,
                    allow_redirects=False,
                )
                async with answer:
                    check_final(answer.status)
                    body = await _start(answer.content, LARGEST_WHOLE if whole else LARGEST)
                    headers = end_to_end(answer.headers, REWRITTEN) if whole else None
                    cut = not answer.content.at_eof()
                    kept = _kept(answer.headers) if headers is None else headers
                    return Response(answer.status, kept, body, cut)
        except TimeoutError as error:
            raise TransportError("timeout", f"no answer in {self._timeout:g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise TransportError("connect", f"cannot connect: {error}") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise TransportError("reset", f"connection lost: {error}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise TransportError("protocol", f"no sensible answer: {error}") from error

    def _url(self, url: str) -> URL:
        found = self._urls.get(url)
        if found is None:
            if len(self._urls) >= REMEMBERED:
                self._urls.clear()
            found = self._urls[url] = URL(url, encoded=True)
        return found

    async def close(self) -> None:
        """Close every connection."""
        self._watchdog.stop()
        await self._session.close()


class Watchdog:
    """Ends what takes too long: one timer for all requests, instead of one each.

    Used as a context around a request, in the task that waits for it; raises `TimeoutError`
    there, between once and 1.1 times *timeout* seconds after it was entered.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._since: dict[asyncio.Task[Any], float] = {}
        self._overdue: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a watchdog needs a task to watch")
        self._since[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._timeout / 10, self._look)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._since.pop(task, None)
        if task in self._overdue:
            self._overdue.discard(task)
            if kind is asyncio.CancelledError and task.uncancel() == 0:
                raise TimeoutError from error

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if not self._since:
            return
        late = loop.time() - self._timeout
        for task, since in self._since.items():
            if since <= late and task not in self._overdue:
                self._overdue.add(task)
                task.cancel()
        self._timer = loop.call_later(self._timeout / 10, self._look)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def _start(content: aiohttp.StreamReader, most: int) -> bytes:
    """Return the whole of an answer that is short enough, the start of a longer one."""
    body = await content.read(most)
    while not content.at_eof() and len(body) < most:
        body += await content.read(most - len(body))
    return body


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in KEPT if name in headers}
