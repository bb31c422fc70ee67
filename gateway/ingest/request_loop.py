"""Serve the requests of one connection, one after the other.

aiohttp parses them. Its own loop makes a task, a response object and a prepared head for each; a
response of the gateway needs none of these and is written at once. Only a relayed response, which
is streamed, is aiohttp's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.http_writer import StreamWriter

from gateway.ingest.responses import Answer, header_lines, to_bytes

Handler = Callable[[web.BaseRequest], Awaitable[Answer | web.StreamResponse]]
"""Returns the response to a request; one of aiohttp's may have been sent already."""
FAILURE = Answer(
    500,
    header_lines({"content-type": "text/plain; charset=utf-8"}),
    b"500 Internal Server Error\n\nServer got itself in trouble",
)


class RequestLoop(web.RequestHandler):
    """aiohttp's handler of one connection, with a shorter way from a request to its response.

    Args:
        server: the server of the connection.
        respond: returns the response to a request.
        max_body: largest body in bytes that a request may be read to.
        options: those of aiohttp's handler.
    """

    __slots__ = ("_max_body", "_respond", "_writer")

    def __init__(self, server: web.Server, respond: Handler, max_body: int, **options: Any) -> None:
        super().__init__(server, **options)
        self._respond = respond
        self._max_body = max_body
        self._writer = StreamWriter(self, self._loop)
        """Writes the next streamed response; one that is written at once leaves it as it is."""

    async def start(self) -> None:
        """Serve requests until the connection closes."""
        loop, task = self._loop, cast("asyncio.Task[None]", asyncio.current_task())
        keeps = True
        while keeps and not (self._close or self._force_close):
            if not self._messages:
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            request = self._take(task)
            try:
                keeps = await self._serve(request)
                if not request.content.is_eof() and not self._force_close:
                    await self._read_on(request.content)
            except ConnectionError:  # the client is gone
                break
            except BaseException as error:
                self.force_close()
                if not isinstance(error, Exception):
                    raise
                self.log_exception("Unhandled exception", exc_info=error)
            self._next_keepalive_close_time = close_at = loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = loop.call_at(close_at, self._process_keepalive)
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    def _take(self, task: "asyncio.Task[None]") -> web.BaseRequest:
        """Return the next request, and read on if reading paused because there were too many."""
        message, body = self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        return web.BaseRequest(
            message, body, self, self._writer, task, self._loop,  # type: ignore[arg-type]  # errors never get here
            client_max_size=self._max_body,
        )  # fmt: skip

    async def _serve(self, request: web.BaseRequest) -> bool:
        """Respond to a request; return whether the connection stays open.

        Raises:
            ConnectionError: the client has closed the connection.
        """
        self._request_in_progress, self._current_request = True, request
        try:
            try:
                response = await self._respond(request)
            except Exception as error:
                self.log_exception("Error handling request from %s", request.remote, exc_info=error)
                if request.writer.output_size > 0:
                    raise ConnectionResetError("a part of the response was sent") from error
                return await self._send(request, FAILURE, keeps=False)
            finally:
                self._current_request = None
            return await self._send(request, response, keeps=request.keep_alive)
        finally:
            self._request_in_progress = False
            if self._handler_waiter is not None and not self._handler_waiter.done():
                self._handler_waiter.set_result(None)

    async def _send(
        self, request: web.BaseRequest, response: Answer | web.StreamResponse, *, keeps: bool
    ) -> bool:
        """Send a response; return whether the connection stays open.

        Raises:
            ConnectionError: the client has closed the connection.
        """
        if isinstance(response, Answer):
            wire = self.transport
            if wire is None or wire.is_closing():
                raise ConnectionResetError("the client closed the connection")
            wire.write(to_bytes(response, request.method, request.version, keeps=keeps))
            if self._paused:
                await self._drain_helper()
            return keeps
        if not keeps:
            response.force_close()
        self._writer = StreamWriter(self, self._loop)
        await response.prepare(request)
        await response.write_eof()
        return bool(response.keep_alive)

    async def _read_on(self, body: StreamReader) -> None:
        """Read and ignore the rest of a request's *body* for a while, then close the connection.

        A client that still sends would not read the response.
        """
        try:
            async with asyncio.timeout(self._lingering_time):
                while self.connected and not body.is_eof():
                    await body.readany()
        except TimeoutError:
            pass
        if not body.is_eof():
            self.close()
