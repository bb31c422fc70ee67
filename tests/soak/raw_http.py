"""Minimal HTTP/1.1 for the load generator and the vendors."""

import asyncio
import re

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read a request or response; return its head and body.

    Raises:
        asyncio.IncompleteReadError: the connection ended first.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    found = _LENGTH.search(head)
    return head, await reader.readexactly(int(found[1])) if found else b""


def status_of(head: bytes) -> int:
    """Return the status of a response."""
    return int(head[9:12])
