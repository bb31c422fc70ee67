"""Mask the gateway's own keys in a vendor's response before it goes back to a client.

Every character of a key becomes an asterisk, so that a body keeps its length and structure.
"""

import re
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable
from functools import lru_cache

from multidict import CIMultiDict

from gateway.http import Response
from gateway.http_client import WBITS
from gateway.redact import SHORTEST, spellings

PIECE = 64 * 1024
"""Bytes that are decompressed at once."""


@lru_cache(maxsize=64)
def _search_for(hidden: frozenset[str]) -> tuple[tuple[bytes, ...], re.Pattern[bytes]]:
    """Return the spellings of keys, the longest first, and a pattern that finds them.

    Every call has a `Masking` of its own, but few sets of keys are hidden.
    """
    spelt = {form.encode() for secret in hidden for form in spellings(secret)}
    longest_first = tuple(sorted(spelt, key=len, reverse=True))
    return longest_first, re.compile(b"|".join(map(re.escape, longest_first)) or rb"(?!)")


class Masking:
    """Masks keys in responses, in all spellings.

    Args:
        secrets: the gateway's own keys.
        presented: keys that the client itself sent; they are not masked.
    """

    def __init__(self, secrets: Iterable[str], presented: Collection[str] = ()) -> None:
        hidden = {one for one in secrets if len(one) >= SHORTEST and one not in presented}
        self._spelt, self._found = _search_for(frozenset(hidden))
        self._longest = len(self._spelt[0]) if self._spelt else 0

    @property
    def hides(self) -> bool:
        """Return whether there are keys to mask."""
        return bool(self._spelt)

    def whole(self, body: bytes) -> bytes:
        """Return *body* with keys masked."""
        return self._found.sub(lambda found: b"*" * len(found[0]), body)

    def text(self, text: str) -> str:
        """Return a header's value or a reason phrase with keys masked."""
        if not self._spelt:
            return text
        return self.whole(text.encode("utf-8", "surrogateescape")).decode(
            "utf-8", "surrogateescape"
        )

    def headers(self, headers: CIMultiDict[str]) -> CIMultiDict[str]:
        """Return *headers* with keys masked in names and values."""
        return CIMultiDict((self.text(name), self.text(value)) for name, value in headers.items())

    def response(self, response: Response) -> Response:
        """Return a completely read response with keys masked."""
        named = ((self.text(name), self.text(said)) for name, said in response.headers.items())
        return Response(
            response.status,
            CIMultiDict(named),
            self.whole(response.body),
            response.truncated,
            response.unread,
        )

    async def pieces(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Yield *body* as it arrives with keys masked, even those split over two pieces."""
        held = b""
        async for piece in body:
            held = self.whole(held + piece)
            keep = self._begun(held)
            if ready := held[: len(held) - keep]:
                yield ready
            held = held[len(held) - keep :]
        if held:
            yield held

    def _begun(self, text: bytes) -> int:
        """Return how many bytes at the end of *text* may be the start of a key."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-length:]
            if any(form.startswith(end) for form in self._spelt):
                return length
        return 0


AS_IT_IS = Masking(())
"""Masks nothing."""


async def inflated(body: AsyncIterable[bytes], coding: str) -> AsyncIterator[bytes]:
    """Yield *body* decompressed, in small pieces.

    Raises:
        ValueError: the body cannot be decompressed.
    """
    coding = coding.strip().lower()
    if coding in {"", "identity"}:
        async for piece in body:
            yield piece
        return
    if coding not in WBITS:
        raise ValueError("the response has an unknown content-encoding")
    stream = zlib.decompressobj(WBITS[coding][0])
    try:
        async for piece in body:
            rest = piece
            while rest:
                yield stream.decompress(rest, PIECE)
                rest = stream.unconsumed_tail
    except zlib.error as error:
        raise ValueError("the response does not match its content-encoding") from error
    if not stream.eof:
        raise ValueError("the response is incomplete")
