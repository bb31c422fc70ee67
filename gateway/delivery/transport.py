"""Requests over real sockets to one destination."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
from yarl import URL

from gateway.errors import TransportError
from gateway.http import Request, Response, check_final_status, end_to_end_headers
from gateway.http_client import LINE, Answer, Connector, StatusLine, unpacked, vendor_session

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
        self._watchdog = DeadlineTimer(timeout)
        connector = Connector(
            limit=connections, ttl_dns_cache=300, keepalive_timeout=60, enable_cleanup_closed=False
        )
        self._session = vendor_session(connector, answers=Answer)
        self._urls: dict[str, URL] = {}

    async def send(self, request: Request, *, whole: bool = False) -> Response:
        """Return the answer to *request*, the *whole* of it or what a verdict needs.

        Redirects are not followed: an event goes where the configuration says. Once a status line
        has come the vendor has decided, so an answer that cannot be read further is one with that
        status, and says why in `unread`.

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
            failed = TransportError("timeout", f"no answer in {self._timeout:g} s")
            cause: Exception = error
        except aiohttp.ClientConnectorError as error:
            why = f"cannot connect: {error}".replace(": Cannot connect", "", 1)
            failed, cause = TransportError("connect", why), error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            failed, cause = TransportError("reset", f"connection lost: {error}"), error
        except (aiohttp.ClientError, ValueError) as error:
            failed, cause = TransportError("protocol", f"no sensible answer: {error}"), error
        status = lines[-1].status if lines else None
        if status is None:
            raise failed from cause
        said = bytes(body) if status >= 300 else b""  # noqa: PLR2004 - RFC 9110, section 15.3
        return Response(status, body=said, truncated=True, unread=str(failed))

    async def _exchange(self, request: Request, body: bytearray, *, whole: bool) -> Response:
        """Return the answer; what has come of its body is in *body* also when that fails."""
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


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in KEPT if name in headers}
