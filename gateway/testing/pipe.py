"""HTTP without sockets: a server's own parser and handlers, fed bytes and asked for theirs."""

import asyncio
from contextlib import suppress
from typing import Any

from aiohttp import web

from gateway.exchange import Response

HEAD = b"\r\n\r\n"


class Pipe:
    """A client's connections to *server*, one after the other where it closes them.

    Args:
        server: of an `aiohttp.web.AppRunner` that is set up.
    """

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._end: _End | None = None

    async def exchange(self, request: bytes) -> Response:
        """Return the answer to the whole bytes of one *request*.

        Raises:
            ConnectionError: the server ended a new connection without one.
        """
        if self._end is not None and not self._end.closed:
            with suppress(ConnectionError):  # it may end one after any answer
                return await self._end.exchange(request)
        self._end = _End(self._server())
        return await self._end.exchange(request)

    def close(self) -> None:
        """End the connection."""
        if self._end is not None:
            self._end.close()


class _End(asyncio.Transport):
    """The server's end."""

    def __init__(self, protocol: Any) -> None:
        super().__init__({"peername": ("192.0.2.1", 4000), "sockname": ("192.0.2.2", 80)})
        self.closed = False
        self._protocol = protocol
        self._written = bytearray()
        self._answered: asyncio.Future[Response] | None = None
        protocol.connection_made(self)

    async def exchange(self, request: bytes) -> Response:
        self._written.clear()
        self._answered = asyncio.get_running_loop().create_future()
        self._protocol.data_received(request)
        return await self._answered

    def write(self, data: Any) -> None:
        self._written += data
        answer = _whole(bytes(self._written))
        if answer is not None and self._answered is not None and not self._answered.done():
            self._answered.set_result(answer)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionResetError("closed without an answer"))

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing: all there is to read was handed over at once."""

    def resume_reading(self) -> None:
        """Nothing, likewise."""


def _whole(written: bytes) -> Response | None:
    """Return the answer that the server has *written*, once it is all there."""
    head, mark, body = written.partition(HEAD)
    if not mark:
        return None
    line, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (pair.partition(":") for pair in lines)
    }
    if len(body) < int(headers.get("content-length", 0)):
        return None
    return Response(int(line.split()[1]), headers, body)
