"""The body of a request that came in.

The server hands it over packed, as it was sent, and what is inflated is inflated here, up to the
cap: the server would go on inflating what nobody reads, and half a megabyte can be made to become a
gigabyte.
"""

import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import ClientPayloadError, web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import TRY_AGAIN, Fault, Rejected
from gateway.ingest.connections import Halted, connection_of

GZIP = frozenset({"gzip", "x-gzip"})
INFLATED = GZIP | {"deflate"}
"""Content codings that are undone (RFC 9110, section 8.4.1)."""
FOREIGN = frozenset({"br", "zstd", "compress", "x-compress"})
"""Content codings that are refused: no vendor's client sends them. What is no coding at all is
taken for a mistake in the label."""
_MARKS = frozenset({b"\xef", b"\xfe", b"\xff"})
"""What byte order marks begin with."""
PARTS = 16
"""Packed parts that one body may be made of (RFC 1952, section 2.2). Each costs a copy of what
follows it, and a megabyte has room for 100,000 empty ones."""
_METHOD = 8
"""How zlib's header begins (RFC 1950, section 2.2); some senders of ``deflate`` leave it out."""


async def read_body(http: web.Request) -> bytes:
    """Return the body, inflated, without the mark that some senders put before UTF-8.

    A sender that asks whether it may send it is told so, or why not, before it does.

    Raises:
        Rejected: it is larger than the cap, as declared, sent or inflated, or cannot be inflated,
            or is in UTF-16, which JSON is not sent in (RFC 8259, section 8.1), or there is no room
            for it.
    """
    cap = http.client_max_size
    if (http.content_length or 0) > cap:
        raise Rejected("$", f"the body is larger than {cap} bytes", Fault.TOO_LARGE)
    await invite(http)
    try:
        body = await _read(http.read)
    except web.HTTPRequestEntityTooLarge as error:
        raise Rejected("$", f"the body is larger than {cap} bytes", Fault.TOO_LARGE) from error
    coding = _coding(http)
    if coding in INFLATED and body:
        body = _inflated(body, coding, cap)
        _held(http, len(body))
    elif coding in FOREIGN:
        raise Rejected("$", f"a body in {coding} is not read; send gzip", Fault.MALFORMED)
    return _utf8(body) if body[:1] in _MARKS else body


async def read_remaining(http: web.Request) -> bytes:
    """Return the body as it was sent, however large it is; its sender has said that it is not.

    Raises:
        Rejected: it did not arrive whole.
    """
    await invite(http)
    return await _read(http.content.read)


def waits(http: web.Request) -> bool:
    """Tell whether the sender waits to be asked for the body (RFC 9110, section 10.1.1)."""
    expected = http.headers.get("expect", "")
    return expected.strip().lower() == "100-continue" and http.version >= HttpVersion11


async def invite(http: web.Request) -> None:
    """Ask for the body, if the sender waits for that.

    Raises:
        Rejected: the sender has gone.
    """
    if waits(http) and http.body_exists:
        connection = connection_of(http)
        if connection is not None:
            connection.uninvited = False
        try:
            await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        except ConnectionError as error:
            raise Rejected("$", "the body did not arrive whole", Fault.MALFORMED) from error
        http.writer.output_size = 0  # the answer itself has not begun


async def uninvited(http: web.Request) -> None:
    """Let whoever handles a request ask for its body; as aiohttp's handlers of ``Expect`` are."""
    connection = connection_of(http)
    if connection is not None:
        connection.uninvited = waits(http) and http.body_exists


def _held(http: web.Request, size: int) -> None:
    """Count an inflated body among what is held.

    Raises:
        Rejected: there is no room for it.
    """
    connection = connection_of(http)
    if connection is not None:
        try:
            connection.hold(size)
        except Halted as error:
            raise Rejected("$", str(error), Fault.UNAVAILABLE, TRY_AGAIN) from error


async def _read(read: Callable[[], Awaitable[bytes]]) -> bytes:
    """Return what *read* does.

    The traceback of what goes wrong is dropped: it holds the part of the body that has come, in a
    circle of references that stays until the garbage is collected.

    Raises:
        Rejected: the body did not arrive whole.
    """
    try:
        return await read()
    except Halted as error:
        error.__traceback__ = None
        raise Rejected("$", str(error), Fault.UNAVAILABLE, TRY_AGAIN) from error
    except (
        ClientPayloadError, ConnectionError, HttpProcessingError, web.RequestPayloadError,
    ) as error:  # fmt: skip
        error.__traceback__ = None
        raise Rejected("$", "the body did not arrive whole", Fault.MALFORMED) from error


def _coding(http: web.Request) -> str:
    return http.headers.get("content-encoding", "").strip().lower()


def inflated(http: web.Request) -> bool:
    """Tell whether `whole` returns the body in another form than it was sent in."""
    return _coding(http) in INFLATED


def _inflated(body: bytes, coding: str, cap: int) -> bytes:
    bits = zlib.MAX_WBITS if body[0] & 0xF == _METHOD else -zlib.MAX_WBITS
    bits = zlib.MAX_WBITS | 16 if coding in GZIP else bits
    pieces: list[bytes] = []
    room = cap + 1
    try:
        while body and room:
            if len(pieces) == PARTS:
                said = f"a body of more than {PARTS} packed parts is not read; pack it as one"
                raise Rejected("$", said, Fault.MALFORMED)
            unpacking = zlib.decompressobj(bits)
            pieces.append(unpacking.decompress(body, room))
            room -= len(pieces[-1])
            if room and not unpacking.eof:
                raise Rejected("$", "the body cannot be inflated: its end is missing",
                               Fault.MALFORMED)  # fmt: skip
            body = unpacking.unused_data
    except zlib.error as error:
        raise Rejected("$", "the body cannot be inflated", Fault.MALFORMED) from error
    if not room:
        raise Rejected("$", f"the body is larger than {cap} bytes when inflated", Fault.TOO_LARGE)
    return b"".join(pieces)


def _utf8(body: bytes) -> bytes:
    if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise Rejected("$", "the body is in UTF-16; send UTF-8", Fault.MALFORMED)
    return body.removeprefix(BOM_UTF8)


class BodyStream:
    """A body that goes on as it comes in, once. What has gone on is held no more.

    Args:
        http: the request.
        moved: called with each piece.
    """

    def __init__(self, http: web.Request, moved: Callable[[], None]) -> None:
        self._http = http
        self._moved = moved
        self._used = False
        self.error: Exception | None = None
        """Why it did not come in whole."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Begin.

        Raises:
            ValueError: it was sent before; a client would have to send it anew.
        """
        if self._used:
            raise ValueError("the body was sent before")
        self._used = True
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        connection = connection_of(self._http)
        try:
            await invite(self._http)
            async for piece in self._http.content.iter_any():
                self._moved()
                yield piece
                if connection is not None:
                    connection.passed(len(piece))
        except Exception as error:
            self.error = error
            raise
