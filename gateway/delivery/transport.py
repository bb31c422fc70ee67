"""Send requests to one destination over HTTP."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
from yarl import URL

from gateway.errors import TransportError
from gateway.http import Request, Response, check_final_status, end_to_end_headers
from gateway.http_client import LINE, Answer, Connector, StatusLine, unpacked, vendor_session

KEPT = ("content-type", "retry-after", "x-ratelimit-reset", "location")
"""Response headers that a verdict or a person may need."""
LARGEST = 64 * 1024
"""Bytes of a response that are read; vendors' responses to events are short."""
LARGEST_WHOLE = 1024 * 1024
"""Bytes of a response that are read if it is passed to a client."""
REWRITTEN = frozenset({"content-length", "content-encoding"})
"""Headers that are wrong for a decompressed body."""

REMEMBERED = 256
"""Number of cached parsed URLs; URLs of forwarded requests have the senders' queries."""


class Transport(Protocol):
    """Sends requests to a destination."""

    async def send(self, request: Request, *, whole: bool = False) -> Response:
        """Return the response to *request*, or raise `TransportError`.

        Args:
            request: the request to send.
            whole: keep all headers of the response, and more of its body.
        """

    async def close(self) -> None:
        """Close every connection."""


class HttpTransport:
    """HTTP/1.1 with keep-alive; each destination has its own, so that none waits for another.

    Args:
        timeout: seconds from sending to the end of the response.
        connections: most open connections.
    """

    def __init__(self, *, timeout: float, connections: int) -> None:
        self._timeout = timeout
        self._watchdog = DeadlineTimer(timeout)
        connector = Connector(
            limit=connections, ttl_dns_cache=300, keepalive_timeout=60, enable_cleanup_closed=False
        )
        self._session = vendor_session(connector, answers=Answer)
        self._urls: dict[str, URL] = {}

    async def send(self, request: Request, *, whole: bool = False) -> Response:
        """Return the response to *request*: all of it if *whole*, else what a verdict needs.

        Redirects are not followed: events go only to the configured host. After the status line
        the vendor's decision is known, so a response that cannot be read further is returned with
        that status, and `unread` says why.

        Raises:
            TransportError: no status line came in time.
        """
        lines: list[StatusLine] = []
        body = bytearray()
        LINE.set(lines)
        try:
            with self._watchdog:
                return await self._exchange(request, body, whole=whole)
        except TimeoutError as error:
            failed = TransportError("timeout", f"no response in {self._timeout:g} s")
            cause: Exception = error
        except aiohttp.ClientConnectorError as error:
            why = f"cannot connect: {error}".replace(": Cannot connect", "", 1)
            failed, cause = TransportError("connect", why), error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            failed, cause = TransportError("reset", f"connection lost: {error}"), error
        except (aiohttp.ClientError, ValueError) as error:
            failed, cause = TransportError("protocol", f"invalid response: {error}"), error
        status = lines[-1].status if lines else None
        if status is None:
            raise failed from cause
        said = bytes(body) if status >= 300 else b""  # noqa: PLR2004 - RFC 9110, section 15.3
        return Response(status, body=said, truncated=True, unread=str(failed))

    async def _exchange(self, request: Request, body: bytearray, *, whole: bool) -> Response:
        """Return the response; *body* gets what has come of its body, even if reading fails."""
        answer = await self._session.request(
            request.method,
            self._url(request.url),
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
        )
        async with answer:
            check_final_status(answer.status)
            most = LARGEST_WHOLE if whole else LARGEST
            while len(body) < most and (piece := await answer.content.read(most - len(body))):
                body += piece
            cut = not answer.content.at_eof()
            plain = unpacked(bytes(body), answer.headers.get("content-encoding", ""), most)
            headers = (
                end_to_end_headers(answer.headers, REWRITTEN) if whole else _kept(answer.headers)
            )
            return Response(
                answer.status, headers, plain.body, cut or plain.cut, unread=plain.unread
            )

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


class DeadlineTimer:
    """Cancels requests after a timeout, with one timer for all instead of one per request.

    Use it as a context manager around a request, in the task that waits for it. It raises
    `TimeoutError` there, 1 to 1.1 times *timeout* seconds after it was entered.
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
            raise RuntimeError("use DeadlineTimer in a task")
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
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in KEPT if name in headers}
