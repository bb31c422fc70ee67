"""Read and decompress the body of a request, up to a size limit.

aiohttp's own decompression is off: it would go on decompressing a body that nobody reads, and half
a megabyte can expand to a gigabyte.
"""

import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import ClientPayloadError, web
from aiohttp.hdrs import CONTENT_ENCODING, EXPECT
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import Fault, Rejected
from gateway.ingest.connections import Halted, connection_of, waits

GZIP = frozenset({"gzip", "x-gzip"})
INFLATED = GZIP | {"deflate"}
"""Content codings that are decompressed (RFC 9110, section 8.4.1)."""
FOREIGN = frozenset({"br", "zstd", "compress", "x-compress"})
"""Content codings that are refused, since no vendor's client sends them. Any other value is ignored
as a wrong label."""
_MARKS = frozenset({b"\xef", b"\xfe", b"\xff"})
"""First bytes of byte order marks."""
PARTS = 16
"""Most gzip members of one body (RFC 1952, section 2.2). Each costs a copy of the rest, and a
megabyte has room for 100,000 empty ones."""
_METHOD = 8
"""The method in zlib's header (RFC 1950, section 2.2); some senders of ``deflate`` omit the
header."""


async def read_body(http: web.BaseRequest, *, once: bool = False) -> bytes:
    """Return the body, decompressed and without a UTF-8 byte order mark.

    If the sender waits for it (``expect: 100-continue``), it is asked for the body first. A body
    that is read only *once* is not kept for another call.

    Raises:
        Rejected: the body is larger than the limit (declared, sent or decompressed), cannot be
            decompressed, is in UTF-16, which JSON forbids (RFC 8259, section 8.1), or there is no
            memory for it.
    """
    cap = http.client_max_size
    if EXPECT in http.headers and waits(http):
        if (http.content_length or 0) > cap:
            raise _too_large(cap)
        await invite(http)
    content = http.content
    if once and content.is_eof() and content.exception() is None:
        body = content.read_nowait()
        if len(body) > cap:
            raise _too_large(cap)
    else:
        body = await _read_on(http, cap)
    if CONTENT_ENCODING in http.headers:
        coding = _coding(http)
        if coding in INFLATED and body:
            body = _inflated(body, coding, cap)
            _held(http, len(body))
        elif coding in FOREIGN:
            raise Rejected("$", f"{coding} is not supported; use gzip", Fault.MALFORMED)
    return _utf8(body) if body[:1] in _MARKS else body


async def _read_on(http: web.BaseRequest, cap: int) -> bytes:
    """Return a body that has not arrived yet.

    Raises:
        Rejected: it is larger than *cap* bytes, or is incomplete.
    """
    if (http.content_length or 0) > cap:
        raise _too_large(cap)
    try:
        return await _read(http.read)
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large(cap) from error


def _too_large(cap: int) -> Rejected:
    return Rejected("$", f"the body is larger than {cap} bytes", Fault.TOO_LARGE)


async def read_remaining(http: web.BaseRequest) -> bytes:
    """Return the body as sent, without a size limit; the caller has checked its declared length.

    Raises:
        Rejected: the body is incomplete.
    """
    await invite(http)
    return await _read(http.content.read)


async def invite(http: web.BaseRequest) -> None:
    """Send "100 Continue" if the sender waits for it.

    Raises:
        Rejected: the sender has closed the connection.
    """
    if waits(http) and http.body_exists:
        connection_of(http).invited = True
        try:
            await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        except ConnectionError as error:
            raise Rejected("$", "the body is incomplete", Fault.MALFORMED) from error
        http.writer.output_size = 0  # the response itself has not begun


def _held(http: web.BaseRequest, size: int) -> None:
    """Count the bytes of a decompressed body.

    Raises:
        Rejected: there is no memory for it.
    """
    try:
        connection_of(http).hold(size)
    except Halted as error:
        raise error.refusal.error() from error


async def _read(read: Callable[[], Awaitable[bytes]]) -> bytes:
    """Return the result of *read*.

    The traceback of an error is dropped: it would keep the received part of the body in memory
    until the next garbage collection.

    Raises:
        Rejected: the body is incomplete.
    """
    try:
        return await read()
    except Halted as error:
        error.__traceback__ = None
        raise error.refusal.error() from error
    except (
        ClientPayloadError, ConnectionError, HttpProcessingError, web.RequestPayloadError,
    ) as error:  # fmt: skip
        error.__traceback__ = None
        raise Rejected("$", "the body is incomplete", Fault.MALFORMED) from error


def _coding(http: web.BaseRequest) -> str:
    return http.headers.get(CONTENT_ENCODING, "").strip().lower()


def inflated(http: web.BaseRequest) -> bool:
    """Return whether `read_body` decompresses the body."""
    return _coding(http) in INFLATED


def _inflated(body: bytes, coding: str, cap: int) -> bytes:
    bits = zlib.MAX_WBITS if body[0] & 0xF == _METHOD else -zlib.MAX_WBITS
    bits = zlib.MAX_WBITS | 16 if coding in GZIP else bits
    pieces: list[bytes] = []
    room = cap + 1
    try:
        while body and room:
            if len(pieces) == PARTS:
                what = f"the body has more than {PARTS} compressed parts; compress it as one"
                raise Rejected("$", what, Fault.MALFORMED)
            unpacking = zlib.decompressobj(bits)
            pieces.append(unpacking.decompress(body, room))
            room -= len(pieces[-1])
            if room and not unpacking.eof:
                raise Rejected("$", "the compressed body is incomplete",
                               Fault.MALFORMED)  # fmt: skip
            body = unpacking.unused_data
    except zlib.error as error:
        raise Rejected("$", "the body cannot be decompressed", Fault.MALFORMED) from error
    if not room:
        what = f"the body is larger than {cap} bytes after decompression"
        raise Rejected("$", what, Fault.TOO_LARGE)
    return b"".join(pieces)


def _utf8(body: bytes) -> bytes:
    if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise Rejected("$", "the body is in UTF-16; send UTF-8", Fault.MALFORMED)
    return body.removeprefix(BOM_UTF8)


class BodyStream:
    """A body that is streamed on as it arrives, once; pieces that were sent use no more memory.

    Args:
        http: the request.
        moved: called for each piece.
    """

    def __init__(self, http: web.BaseRequest, moved: Callable[[], None]) -> None:
        self._http = http
        self._moved = moved
        self._used = False
        self.error: Exception | None = None
        """Why the body is incomplete."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Start to stream.

        Raises:
            ValueError: the body was streamed before; only the client can send it again.
        """
        if self._used:
            raise ValueError("the body was streamed before")
        self._used = True
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        connection = connection_of(self._http)
        try:
            await invite(self._http)
            async for piece in self._http.content.iter_any():
                self._moved()
                yield piece
                connection.passed(len(piece))
        except Exception as error:
            self.error = error
            raise
