"""Connections to the vendors' own servers, for calls that are passed on at once."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import aiohttp
from yarl import URL

CONNECTIONS = 256
"""Calls to one upstream that may be under way; further ones wait for their turn."""
IDLE = 15.0
"""Seconds that an unused connection is kept: less than most servers do, since a call that is
sent down a connection just closed fails, and only some methods may be tried twice."""


class Place(NamedTuple):
    """Where an upstream is, and how long it may be silent."""

    url: str
    patience: float
    """Seconds in which nothing moves, in neither direction, after which a call is given up."""


class Upstream:
    """One vendor's server: whatever is passed on to it stays below its address."""

    def __init__(self, place: Place) -> None:
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
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS, ttl_dns_cache=300, keepalive_timeout=IDLE
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
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
