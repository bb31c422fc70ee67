"""Bodies of answers, inflated where they came packed."""

import zlib
from typing import NamedTuple

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
