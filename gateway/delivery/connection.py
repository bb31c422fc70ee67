"""One HTTP/1.1 connection to a vendor, which carries one request at a time.

The vendor has decided once a status line has come. So a response that cannot be read further is
one with that status, and says why in ``unread``; only without a status line is there none.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol, cast

import httptools
from multidict import CIMultiDict

from gateway.delivery.request_head import Origin
from gateway.errors import TransportError
from gateway.http import FINAL, NO_HEADERS, Response, clean_header_text, end_to_end_headers
from gateway.http_client import MOST_INTERIM, StatusLine, unpacked

_KEPT = ("content-type", "retry-after", "x-ratelimit-reset", "location")
"""Headers of a response that a verdict or a person may need."""
_CODINGS = ("transfer-encoding", "content-encoding")
_READ = {name.encode(): name for name in ("content-length", *_CODINGS, *_KEPT)}
SHORT = 64
"""Bytes up to which the text of a header is remembered."""
MAX_BODY = 64 * 1024
"""Bytes of a response that are read; a vendor's response to an event is short."""
MAX_WHOLE_BODY = 1024 * 1024
"""Bytes of a response that are read where it is handed back to a client."""
MAX_OVERHEAD = 256 * 1024
"""Bytes of a response besides its body: heads, interim responses, sizes of chunks, trailers."""
MAX_HEADERS = 512
_REWRITTEN = frozenset({"content-length", "content-encoding"})
"""Headers that no longer hold of a body that was read and inflated."""
_BODYLESS = frozenset({204, 304})
"""Statuses whose responses have no body (RFC 9112, section 6.3)."""
MAX_UNSURE_PAYLOAD = 16 * 1024
"""Bytes of a request that any socket takes at once."""
_MULTIPLE_CHOICES, _BAD_REQUEST = 300, 400

OnEnd = Callable[[Response | TransportError], object]


@lru_cache(256)
def _short_text(value: bytes) -> str:
    return _text(value)


def _text(value: bytes) -> str:
    return clean_header_text(value.decode("utf-8", "surrogateescape"))


class Exchange:
    """A request on its way, and who is told how it ended; told exactly once.

    Args:
        origin: the server that it goes to.
        payload: the whole request.
        on_end: called with the response, or with the reason why there is none.
        deadline: the loop's time at which it ends at the latest.
    """

    __slots__ = ("bodyless", "connection", "deadline", "on_end", "origin", "payload", "whole")

    def __init__(self, origin: Origin, payload: bytes, on_end: OnEnd, deadline: float) -> None:
        self.origin = origin
        self.payload = payload
        self.on_end = on_end
        self.deadline = deadline
        self.whole = False
        """Keep every header of the response, and more of its body."""
        self.bodyless = False
        """It is a HEAD request, whose response has no body."""
        self.connection: Connection | None = None

    def end(self, end: Response | TransportError) -> None:
        """Call `on_end`; an exception that it raises is reported and disturbs nobody else."""
        try:
            self.on_end(end)
        except Exception as error:  # noqa: BLE001 - a callback may raise anything
            report = {"message": "on_end of a request raised", "exception": error}
            asyncio.get_running_loop().call_exception_handler(report)


class ConnectionOwner(Protocol):
    """Keeps connections."""

    def on_exchange_end(self, connection: "Connection", exchange: Exchange, *, keep: bool) -> None:
        """Take *connection* back; where not to *keep*, it is closed already."""

    def on_connection_lost(self, connection: "Connection") -> None:
        """Forget *connection*."""


class Connection(asyncio.Protocol):
    """A connection to *origin*; not open before asyncio says so."""

    def __init__(self, owner: ConnectionOwner, origin: Origin) -> None:
        self.origin = origin
        self.exchange: Exchange | None = None
        self.opened_at = self.idle_since = 0.0
        self.closed = False
        self.socket: socket.socket | None = None
        """Set once it is connected."""
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser
        """Set while it is open."""
        self._head = bytearray()
        """What has come of a head that is not complete."""
        self._reset()

    def _reset(self) -> None:
        if self._head:
            self._head.clear()
        self._overhead = 0
        self._head_complete = self._complete = self._truncated = self._surplus = False
        self._status = self._interim = self._size = 0
        self._sized = self._chunked = self._persistent = False
        self._body: list[bytes] = []
        self._coding = self._error = ""
        self._fields: list[tuple[bytes, bytes]] = []
        self._headers: Mapping[str, str] = NO_HEADERS

    def begin(self, exchange: Exchange) -> None:
        """Send a request, as soon as the connection is open."""
        self.exchange = exchange
        exchange.connection = self
        if self._transport is not None:
            self._reset()
            self._transport.write(exchange.payload)

    @property
    def is_usable(self) -> bool:
        """Tell whether a further request may be sent."""
        return not self.closed and self._transport is not None and not self._transport.is_closing()

    def has_unread(self) -> bool:
        """Tell whether the server has sent something or closed, unnoticed by the loop so far."""
        if self.socket is None:
            return True
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request that the connection was made for."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self.opened_at = asyncio.get_running_loop().time()
        if self.exchange is None:  # given up meanwhile
            self.abort()
        else:
            self._transport.write(self.exchange.payload)

    def data_received(self, data: bytes) -> None:
        """Read a response; what nobody asked for ends the connection.

        It would pass for the response to the next request.
        """
        exchange = self.exchange
        if exchange is None:
            self.abort()
            return
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._error = self._error or "status 101 is no response"
        except httptools.HttpParserError as error:
            self._error = self._error or str(error)
        if self._complete or self._truncated:
            self._finish(exchange)
            return
        if not self._head_complete:
            self._head += data
        if self._overhead > MAX_OVERHEAD:
            self._error = self._error or f"more than {MAX_OVERHEAD} bytes besides the body"
        elif self._error and not self._head_complete and self._status_line().has_begun:
            return  # the parser gave up, but the rest of the line brings the status
        if self._error:
            self.fail("protocol", f"invalid response: {self._error}")

    def _status_line(self) -> StatusLine:
        line = StatusLine()
        line.feed(bytes(self._head))
        return line

    def eof_received(self) -> None:
        """Close: a vendor that says no more has no more to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request; a body without a length ends so."""
        self.closed = True
        if self.exchange is not None:
            if self._head_complete and exc is None and not (self._sized or self._chunked):
                self._finish(self.exchange)
            else:
                self.fail("reset", f"connection lost: {exc or 'the server closed it'}")
        self._owner.on_connection_lost(self)
        # Both refer to this object. Without them it is freed at once, with the buffers of TLS; the
        # garbage collector may come only after hundreds of connections.
        del self._parser
        self._transport = None

    def on_message_begin(self) -> None:
        """Begin a response, or notice one too many."""
        if self._complete:
            self._surplus = True
        elif self._fields:
            self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; those behind the body are left out."""
        if not self._head_complete:
            self._fields.append((name, value))
            if b"\0" in value:
                self._error = self._error or "NUL in a header"

    def on_headers_complete(self) -> None:
        """Note the status, how the body is framed, and the headers that somebody may need."""
        fields = self._fields
        if len(fields) > MAX_HEADERS:
            self._error = self._error or f"more than {MAX_HEADERS} headers"
        if self._surplus or self._error:
            return
        status = self._parser.get_status_code()
        if status < FINAL:
            return
        self._head_complete, self._status = True, status
        if self._head:
            self._head.clear()
        kept: dict[str, str] = {}
        for name, value in fields:
            known = _READ.get(name.lower())
            if known == "content-length":
                self._sized = True
            elif known in _CODINGS:
                self._note_coding(known, value)
            elif known is not None and known not in kept:
                kept[known] = _short_text(value) if len(value) <= SHORT else _text(value)
        self._headers = kept
        if self.exchange is not None and self.exchange.bodyless:
            self._complete = self._surplus = True

    def _note_coding(self, name: str, value: bytes) -> None:
        if name == "transfer-encoding":
            self._chunked = value.lower().endswith(b"chunked")
        else:
            self._coding = self._coding or value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body, up to the limit."""
        if self.exchange is None or self._truncated or self._surplus or self._error:
            return
        self._body.append(data)
        size = len(data)
        self._size += size
        self._overhead -= size
        if self._size > MAX_BODY:
            self._truncated = self._size > self._limit

    def on_message_complete(self) -> None:
        """Note the end of a response; interim ones are skipped and counted."""
        if self._head_complete:
            self._complete = True
            self._persistent = self._parser.should_keep_alive()
            return
        self._interim += 1
        if self._interim >= MOST_INTERIM:
            self._error = self._error or "too many interim responses"

    @property
    def _limit(self) -> int:
        return MAX_WHOLE_BODY if self.exchange is not None and self.exchange.whole else MAX_BODY

    def _finish(self, exchange: Exchange) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        unread, truncated = "", self._truncated
        if self._coding or truncated:
            limit = self._limit
            plain = unpacked(body[:limit], self._coding, limit)
            body, unread, truncated = plain.body, plain.unread, truncated or plain.cut
        keep = (
            self._complete
            and self._persistent
            and not (self._truncated or self._surplus or self._error or self.closed)
            and (self._sized or self._chunked or self._status in _BODYLESS)
            and self._transport is not None
            and not self._transport.get_write_buffer_size()
            and not (self._status >= _BAD_REQUEST and self._is_unsure(exchange))
        )
        headers = self._every_header() if exchange.whole else self._headers
        response = Response(self._status, headers, body, truncated, unread)
        self._end(response, keep=keep)

    def _is_unsure(self, exchange: Exchange) -> bool:
        """Tell whether a part of a refused request may not have gone out.

        An answer may come before. What is left of a request would delay the next one for as long
        as the vendor does not read it. With TLS nobody says what is left.
        """
        return self.origin.tls and len(exchange.payload) > MAX_UNSURE_PAYLOAD

    def _every_header(self) -> CIMultiDict[str]:
        every = CIMultiDict(
            (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
            for name, value in self._fields
        )
        return end_to_end_headers(every, _REWRITTEN)

    def fail(self, cause: str, message: str) -> None:
        """End the request for *cause*; with the status, where its line has come."""
        status = self._status if self._head_complete else self._status_line().status
        if status is None:
            self._end(TransportError(cause, message), keep=False)
            return
        limit = self._limit
        refused = status >= _MULTIPLE_CHOICES
        body = unpacked(b"".join(self._body)[:limit], self._coding, limit).body if refused else b""
        self._end(Response(status, self._headers, body, truncated=True, unread=message), keep=False)

    def _end(self, end: Response | TransportError, *, keep: bool) -> None:
        exchange, self.exchange = self.exchange, None
        if not keep:
            self.abort()
        if exchange is not None:
            exchange.connection = None
            self._owner.on_exchange_end(self, exchange, keep=keep)
            exchange.end(end)

    def drop(self) -> None:
        """Close without telling anybody: the request was given up."""
        exchange, self.exchange = self.exchange, None
        self.abort()
        if exchange is not None:
            exchange.connection = None
            self._owner.on_exchange_end(self, exchange, keep=False)

    def abort(self) -> None:
        """Close at once."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
