"""aiohttp connections that keep the status line, and decompression of bodies.

When a header is too long or the body ends too early, aiohttp's parser raises an error without the
status. Only the status tells whether the vendor accepted the request, so the status line is
parsed here a second time.
"""

import re
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import aiohttp
from aiohttp.client_proto import ResponseHandler

from gateway.http import FINAL

_LINE = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?=[ \t\r\n])")
_BEGINNING = b"HTTP/"
_END = re.compile(rb"\r?\n\r?\n")
LONGEST_LINE = 8 * 1024
"""Bytes; a longer status line is invalid."""
LONGEST_INTERIM = 64 * 1024
"""Bytes of the head of an interim response."""
MOST_INTERIM = 32
"""Interim responses (1xx) before the final one; after more the connection is closed."""
UPGRADE = 101


class StatusLine:
    """Parses the status of the final response from the bytes of a connection."""

    def __init__(self) -> None:
        self.status: int | None = None
        """None until the whole status line of a final response has come."""
        self.interim = 0
        self._head = b""
        self._given_up = False

    @property
    def has_begun(self) -> bool:
        """Whether further bytes may complete a status line that has begun."""
        begun = self._head[: len(_BEGINNING)]
        return bool(begun) and self.status is None and _BEGINNING.startswith(begun)

    def feed(self, data: bytes) -> None:
        """Parse the next bytes."""
        if self.status is not None or self._given_up:
            return
        self._head = (self._head + data).lstrip(b"\r\n")
        while self._head and self.status is None and not self._given_up:
            if not self._step():
                return
        self._head = b""

    def _step(self) -> bool:
        """Parse one status line; return False if more bytes are needed."""
        if b"\n" not in self._head[: LONGEST_LINE + 1]:
            self._given_up = len(self._head) > LONGEST_LINE
            return self._given_up
        found = _LINE.match(self._head)
        status = int(found[1]) if found else UPGRADE
        if status >= FINAL:
            self.status = status
        elif status == UPGRADE or self.interim >= MOST_INTERIM:
            self._given_up = True
        else:
            return self._skip()
        return True

    def _skip(self) -> bool:
        end = _END.search(self._head)
        if end is None:
            self._given_up = len(self._head) > LONGEST_INTERIM
            return self._given_up
        self.interim += 1
        self._head = self._head[end.end() :].lstrip(b"\r\n")
        return True


class GuardedConnection(ResponseHandler):
    """A connection to a vendor that keeps the status line of its latest response."""

    line = StatusLine()

    def set_response_params(self, **params: Any) -> None:
        """Begin to read a response; aiohttp calls it for each request."""
        self.line = StatusLine()
        super().set_response_params(**params)

    def is_connected(self) -> bool:
        """Return whether a request may be sent: not if an unrequested response has arrived.

        aiohttp would take it for the response to that request.
        """
        return super().is_connected() and not len(self)

    def data_received(self, data: bytes) -> None:
        """Read bytes from the vendor; too many interim responses end the connection."""
        self.line.feed(data)
        if self.line.interim >= MOST_INTERIM:
            self.set_exception(aiohttp.ClientPayloadError("too many interim responses"))
            if self.transport is not None:
                self.transport.abort()
            return
        super().data_received(data)


class Connector(aiohttp.TCPConnector):
    """Makes connections that keep status lines."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        made: Callable[..., ResponseHandler] = GuardedConnection
        self._factory = partial(made, loop=self._loop)


LONGEST_FIELD = 32 * 1024
MOST_FIELDS = 512
"""Bytes of a header and number of headers of a response; content security policies are long."""


def vendor_session(
    connector: Connector,
    *,
    also_skip: Iterable[str] = (),
) -> aiohttp.ClientSession:
    """Return a session that adds nothing to requests and leaves responses unchanged.

    It keeps no cookies and sets no timeouts.

    Args:
        connector: makes its connections.
        also_skip: further headers that aiohttp must not add.
    """
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=LONGEST_FIELD,
        max_field_size=LONGEST_FIELD,
        max_headers=MOST_FIELDS,
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers=("accept", "accept-encoding", "user-agent", *also_skip),
    )


WBITS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}
"""zlib's ``wbits`` for each content coding (RFC 9110, section 8.4.1). Some servers send deflate
without the zlib header."""


class Unpacked(NamedTuple):
    """A decompressed body."""

    body: bytes
    cut: bool = False
    """Whether the body is incomplete or could not be decompressed."""
    unread: str = ""
    """Why the body could not be decompressed; empty if it could."""


def unpacked(body: bytes, coding: str, most: int) -> Unpacked:
    """Return at most *most* decompressed bytes of *body*.

    A body that cannot be decompressed is returned unchanged: some servers label plain text as
    compressed.
    """
    coding = coding.strip().lower()
    if not body or coding in {"", "identity"}:
        return Unpacked(body)
    if coding not in WBITS:
        return Unpacked(body, cut=True, unread=f"unknown content-encoding {coding[:40]!r}")
    for wbits in WBITS[coding]:
        stream = zlib.decompressobj(wbits)
        try:
            plain = stream.decompress(body, most)
        except zlib.error:
            continue
        return Unpacked(plain, cut=not stream.eof)
    return Unpacked(body, cut=True, unread=f"the body is not in content-encoding {coding}")
