"""aiohttp connections that keep the status line, and decompression of bodies.

aiohttp's parser gives up on an answer as a whole: where a header is too long or the body ends too
early, its error no longer tells the status. What became of a request stands in the status line,
so it is read here beside the parser.
"""

import re
import zlib
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import aiohttp
from aiohttp.client_proto import ResponseHandler

from gateway.http import FINAL

_LINE = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?=[ \t\r\n])")
_END = re.compile(rb"\r?\n\r?\n")
LONGEST_LINE = 8 * 1024
"""Bytes of a status line, past which it is taken for none."""
LONGEST_INTERIM = 64 * 1024
"""Bytes of the head of an interim answer."""
MOST_INTERIM = 32
"""Interim answers (1xx) before the final one; more than that are a flood."""
UPGRADE = 101


class StatusLine:
    """Reads the status of the final answer from the bytes of a connection as they come."""

    def __init__(self) -> None:
        self.status: int | None = None
        """None until a whole status line of a final answer has come."""
        self.interim = 0
        self._head = b""
        self._given_up = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if self.status is not None or self._given_up:
            return
        self._head = (self._head + data).lstrip(b"\r\n")
        while self._head and self.status is None and not self._given_up:
            if not self._step():
                return
        self._head = b""

    def _step(self) -> bool:
        """Read one status line; False where more bytes are needed."""
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


class Connection(ResponseHandler):
    """A connection to a vendor that remembers the status line of its latest answer."""

    line = StatusLine()

    def set_response_params(self, **params: Any) -> None:
        """Begin to read the answer to a request; called by aiohttp for each."""
        self.line = StatusLine()
        super().set_response_params(**params)

    def is_connected(self) -> bool:
        """Tell whether a request may go out: not where an answer lies that nobody asked for.

        It would pass for the answer to that request.
        """
        return super().is_connected() and not len(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the vendor; a flood of interim answers ends the connection."""
        self.line.feed(data)
        if self.line.interim >= MOST_INTERIM:
            self.set_exception(aiohttp.ClientPayloadError("too many interim answers"))
            if self.transport is not None:
                self.transport.abort()
            return
        super().data_received(data)


LINE: ContextVar[list[StatusLine]] = ContextVar("LINE")
"""Takes the status line that the request of the current task is answered with."""


class Answer(aiohttp.ClientResponse):
    """An answer that tells the task that waits for it which status line it will have."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Read the head; called by aiohttp."""
        if isinstance(connection.protocol, Connection):
            LINE.get().append(connection.protocol.line)
        return await super().start(connection)


class Connector(aiohttp.TCPConnector):
    """Makes connections that remember status lines."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        made: Callable[..., ResponseHandler] = Connection
        self._factory = partial(made, loop=self._loop)


LONGEST_FIELD = 32 * 1024
MOST_FIELDS = 512
"""Bytes of a header and number of headers of an answer; policies of pages are long."""


def vendor_session(
    connector: Connector,
    *,
    answers: type[aiohttp.ClientResponse] = aiohttp.ClientResponse,
    also_skip: Iterable[str] = (),
) -> aiohttp.ClientSession:
    """Return a session that adds nothing to requests, and changes nothing about answers.

    It keeps no cookies and sets no time limits.

    Args:
        connector: its connections.
        answers: the class of its answers.
        also_skip: headers that aiohttp must not add, besides those of every session.
    """
    return aiohttp.ClientSession(
        connector=connector,
        response_class=answers,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=LONGEST_FIELD,
        max_field_size=LONGEST_FIELD,
        max_headers=MOST_FIELDS,
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers=("accept", "accept-encoding", "user-agent", *also_skip),
    )


WBITS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}
"""How zlib reads each content coding (RFC 9110, section 8.4.1); some servers send deflate bare."""


class Unpacked(NamedTuple):
    """A body as it was before it was packed."""

    body: bytes
    cut: bool = False
    """There is more of it, or it could not be unpacked."""
    unread: str = ""
    """Why it is as it came, though it was said to be packed."""


def unpacked(body: bytes, coding: str, most: int) -> Unpacked:
    """Return at most *most* bytes of *body*, unpacked.

    What cannot be unpacked comes back as it is: some servers label plain text as packed.
    """
    coding = coding.strip().lower()
    if not body or coding in {"", "identity"}:
        return Unpacked(body)
    if coding not in WBITS:
        return Unpacked(body, cut=True, unread=f"content-encoding {coding[:40]!r} is not known")
    for wbits in WBITS[coding]:
        stream = zlib.decompressobj(wbits)
        try:
            plain = stream.decompress(body, most)
        except zlib.error:
            continue
        return Unpacked(plain, cut=not stream.eof)
    return Unpacked(body, cut=True, unread=f"content-encoding {coding} is not true of the body")
