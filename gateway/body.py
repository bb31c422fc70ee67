"""The body of a request that came in."""

from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from gateway.errors import Fault, Rejected

INFLATED = frozenset({"gzip", "deflate", "br", "zstd"})
"""Content codings that the server undoes by itself, as aiohttp's HttpParser lists them."""


async def whole(http: web.Request) -> bytes:
    """Return the body, inflated.

    Raises:
        Rejected: it is larger than the cap, as sent or inflated, or cannot be inflated.
    """
    try:
        return await _read(http.read)
    except web.HTTPRequestEntityTooLarge as error:
        raise Rejected("$", str(error.text), Fault.TOO_LARGE) from error


async def rest(http: web.Request) -> bytes:
    """Return the body however large it is; its sender has said that it is not.

    Raises:
        Rejected: it did not arrive whole.
    """
    return await _read(http.content.read)


async def _read(read: Callable[[], Awaitable[bytes]]) -> bytes:
    try:
        return await read()
    except (ContentEncodingError, HttpProcessingError, web.RequestPayloadError) as error:
        raise Rejected("$", "the body cannot be inflated", Fault.MALFORMED) from error
    except ClientPayloadError as error:
        raise Rejected("$", "the body did not arrive whole", Fault.MALFORMED) from error


def inflated(http: web.Request) -> bool:
    """Tell whether the body is read in another form than it was sent in."""
    return http.headers.get("content-encoding", "").strip().lower() in INFLATED


class Stream:
    """A body that goes on as it comes in, once.

    Args:
        http: the request.
        moved: called with each piece.
    """

    def __init__(self, http: web.Request, moved: Callable[[], None]) -> None:
        self._content = http.content
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
        try:
            async for piece in self._content.iter_any():
                self._moved()
                yield piece
        except Exception as error:
            self.error = error
            raise
