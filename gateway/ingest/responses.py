"""Write a response as the bytes of HTTP/1."""

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import msgspec
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11

from gateway.http import NOSNIFF, REQUEST_ID, clean_header_text

NO_BODY = frozenset({204, 304})
"""Statuses of responses without a body (RFC 9110, section 6.4.1)."""
_OWN = frozenset({"connection", "content-length", "transfer-encoding", REQUEST_ID})
"""Headers that only the gateway sets, for each response."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A response whose headers are already text."""

    status: int
    lines: bytes
    """Lines that `header_lines` returned, and further ones that end with CR and LF."""
    body: bytes = b""


def header_lines(headers: Mapping[str, str], *, has_body: bool = True) -> bytes:
    """Return *headers* as lines of a response, without those that differ for each response.

    A ``date`` comes first. A body without a type gets ``application/octet-stream`` (RFC 9110,
    section 8.3). Control characters in a value become spaces.

    Args:
        headers: names and values; a name may occur several times.
        has_body: whether the response has a body.
    """
    dated: list[str] = []
    plain: list[str] = []
    names: set[str] = set()
    for name, value in headers.items():
        low = name.lower()
        names.add(low)
        value = clean_header_text(value)  # noqa: PLW2901 - the raw one must not be used
        if low == "date":
            dated.append(f"date: {value}\r\n")
        elif low not in _OWN:
            plain.append(f"{clean_header_text(name)}: {value}\r\n")
    if has_body and "content-type" not in names:
        plain.append("content-type: application/octet-stream\r\n")
    plain += [f"{name}: {value}\r\n" for name, value in NOSNIFF.items() if name not in names]
    return "".join((*dated, *plain)).encode()


def to_bytes(answer: Answer, method: str, version: HttpVersion, *, keeps: bool) -> bytes:
    """Return *answer* as bytes.

    Args:
        answer: the response.
        method: method of the request.
        version: HTTP version of the request.
        keeps: whether the connection stays open.
    """
    start = _start(answer.status, version, keeps=keeps)
    lines, body = answer.lines, answer.body
    date = b"" if lines.startswith(b"date:") else _clock.line()
    if answer.status in NO_BODY:
        return b"%b%b%b\r\n" % (start, lines, date)
    if method == "HEAD":
        return b"%b%b%bcontent-length: %d\r\n\r\n" % (start, lines, date, len(body))
    return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (start, lines, date, len(body), body)


@lru_cache(maxsize=256)
def _start(status: int, version: HttpVersion, *, keeps: bool) -> bytes:
    """Return the status line, and the ``connection`` header if one is needed."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    line = f"HTTP/{version.major}.{version.minor} {status} {phrase}\r\n"
    if keeps and version == HttpVersion10:
        line += "connection: keep-alive\r\n"
    elif not keeps and version == HttpVersion11:
        line += "connection: close\r\n"
    return line.encode()


class _DateLine:
    """The ``date`` header; it changes once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """Return the line."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = f"date: {formatdate(now, usegmt=True)}\r\n".encode()
        return self._line


_clock = _DateLine()
