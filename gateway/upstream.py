"""Connections to the vendors' own servers, for calls that are passed on at once."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import aiohttp
from yarl import URL

from gateway.status_line import Connector

CONNECTIONS = 256
"""Calls to one upstream that may be under way; further ones wait for their turn."""
CALLS_EACH = 192
"""Calls of one client to one upstream that may be under way."""
UPLOADS, UPLOADS_EACH = 128, 32
"""Bodies that may go up to one upstream as they come in, and those of one client: whoever sends
them decides how long each takes."""
LONGEST_FIELD = 32 * 1024
MOST_FIELDS = 512
"""Bytes of a header and number of headers of an answer; policies of pages are long."""
IDLE = 15.0
"""Seconds that an unused connection is kept: less than most servers do, since a call that is
sent down a connection just closed fails, and only some methods may be tried twice."""


class Place(NamedTuple):
    """Where an upstream is, and how long it may be silent."""

    url: str
    patience: float
    """Seconds in which nothing moves, in neither direction, after which a call is given up."""


class Turns:
    """So many at once, and so many of one client; all others wait for their turn.

    Args:
        total: at once.
        each: of them of one client.
    """

    def __init__(self, total: int, each: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._each = each
        self._clients: dict[str, tuple[asyncio.Semaphore, set[object]]] = {}

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn of *client*, and keep it."""
        mine, users = self._clients.setdefault(client, (asyncio.Semaphore(self._each), set()))
        user = object()
        users.add(user)
        try:
            async with mine, self._total:
                yield
        finally:
            users.discard(user)
            if not users:
                self._clients.pop(client, None)


class Upstream:
    """One vendor's server: whatever is passed on to it stays below its address.

    Attributes:
        calls: the turns of calls.
        uploads: the turns of those whose body goes up as it comes in.
    """

    def __init__(self, place: Place) -> None:
        self.calls = Turns(CONNECTIONS, CALLS_EACH)
        self.uploads = Turns(UPLOADS, UPLOADS_EACH)
        self.patience = place.patience
        self._base = place.url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._lent = 0
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    def url(self, target: str) -> URL:
        """Return the address of *target*, a path with its query, not a letter of it changed.

        Raises:
            ValueError: there is no such address.
        """
        return URL(self._base + target, encoded=True)

    @contextmanager
    def session(self) -> Iterator[aiohttp.ClientSession]:
        """Lend the connections for one call; they stay open until it ends."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=Connector(limit=CONNECTIONS, ttl_dns_cache=300, keepalive_timeout=IDLE),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=LONGEST_FIELD,
                max_field_size=LONGEST_FIELD,
                max_headers=MOST_FIELDS,
                timeout=aiohttp.ClientTimeout(total=None),
                skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            )
        self._lent += 1
        try:
            yield self._session
        finally:
            self._lent -= 1
            if self._retired and not self._lent:
                self._closing = asyncio.get_running_loop().create_task(self.close())

    async def retire(self) -> None:
        """Close every connection as soon as no call needs it."""
        self._retired = True
        if not self._lent:
            await self.close()

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class Upstreams:
    """The upstreams of a configuration; those that the next one has as well are kept."""

    def __init__(self) -> None:
        self._open: dict[Place, Upstream] = {}

    def of(self, url: str, patience: float) -> Upstream:
        """Return the upstream at *url*."""
        place = Place(url, patience)
        return self._open.setdefault(place, Upstream(place))

    async def keep(self, wanted: Iterable[Place]) -> None:
        """Let go of all others, each when its last call has ended."""
        kept = set(wanted)
        for place in [place for place in self._open if place not in kept]:
            await self._open.pop(place).retire()

    async def close(self) -> None:
        """Close every connection."""
        for upstream in self._open.values():
            await upstream.close()
