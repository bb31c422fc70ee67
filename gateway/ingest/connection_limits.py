"""Limits over all clients' connections: how many there are, and how much they may hold.

Under pressure the client that holds most gives way, and of its connections the one that has been
silent longest, so that whoever sends a request that is whole is served:

    waits for a request, or for its head   closed
    waits for the rest of a body           answered with "try later", in the vendor's words, closed
    is being answered                      left alone
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.log_limit import LogLimit

SPARE = 256
"""Files that are open besides connections, and those that these need at vendors."""
SMALL = 16 * 1024
"""Bytes that a client may hold although the budget is spent, while the others hold no more than an
eighth above it: what they hold may be worked on for a while."""
BATCH = 64
"""A look for connections that can be closed goes over all of them, so it frees this part of a limit
at once."""
VAIN = 0.05
"""Seconds between two looks for connections that can be closed, where the last one found none."""
QUIET = 10.0
"""Seconds between two log lines about connections of one kind."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What clients may take."""

    header_timeout: float = 15.0
    body_timeout: float = 30.0
    idle_timeout: float = 75.0
    max_connections: int = 4096
    per_client: int = 2048
    """Connections from one address, unless it is a trusted proxy's."""
    max_headers: int = 32 * 1024
    max_bodies: int = 64 * 1024 * 1024
    """Bytes that were received and are not yet answered, over all connections."""

    @property
    def tick(self) -> float:
        """Return the seconds between two looks at all connections."""
        return min(1.0, max(0.02, min(self.header_timeout, self.body_timeout) / 10))


class LimitedConnection(Protocol):
    """A connection, as far as the limits over all of them go.

    Attributes:
        client: the peer's address; empty for a proxy's, behind which there are many.
        speaks_for: whose address the last request had that came through a proxy.
        heard: when something last came.
        held: bytes that were received and are not yet answered.
        refused: why its requests are not taken; empty where they are.
    """

    client: str
    speaks_for: str
    heard: float
    held: int
    refused: str

    @property
    def reads_body(self) -> bool:
        """Tell whether the rest of a body is waited for."""

    @property
    def queues(self) -> bool:
        """Tell whether requests wait behind the one that is being answered."""

    @property
    def waits(self) -> bool:
        """Tell whether nothing happens here until the client sends more."""

    def halt(self, reason: str) -> None:
        """Wait no longer for the client."""

    def turn_away(self, reason: str) -> None:
        """Answer the first request with "try later", and close."""

    def overdue(self, now: float) -> str | None:
        """End what takes too long; return what it was."""

    def force_close(self) -> None:
        """Close at once."""


class Guard:
    """What holds for all connections of an application, and what is told of them.

    Args:
        limits: what clients may take.
        trusts: tells whether an address is a proxy's, through which many clients come.
        closed: told, with the reason, of each connection that is closed or turned away.
        unreadable: told, with the kind of mistake, of each request that is no HTTP.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        trusts: Callable[[str], bool],
        closed: Callable[[str], None],
        unreadable: Callable[[str], None],
    ) -> None:
        self.limits = limits
        self.trusts = trusts
        self.unreadable = unreadable
        self.held = 0
        """Bytes that were received and are not yet answered."""
        self._closed = closed
        self._open: set[LimitedConnection] = set()
        self._leaving: set[LimitedConnection] = set()
        self._clients = Counter[str]()
        self._timer: asyncio.TimerHandle | None = None
        self._lines = LogLimit(1, QUIET)
        self._vain: dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many connections there are."""
        return len(self._open)

    def admit(self, new: LimitedConnection) -> None:
        """Make room for a connection; where there is none, it is answered with "try later"."""
        limits = self.limits
        self._open.add(new)
        client = new.client
        self._clients[client] += 1
        if client and self._clients[client] > limits.per_client:
            own = [one for one in self._open if one.client == client and one is not new]
            if not self._close(own, limits.per_client, "client_limit"):
                new.turn_away("too many connections from this address; try again")
        elif len(self._open) > limits.max_connections:
            others = [one for one in self._open if one is not new]
            if not self._close(others, limits.max_connections, "limit"):
                new.turn_away("too many connections; try again")
        if new.refused:
            self.report("refused")
            if len(self._open) > limits.max_connections + limits.max_connections // 16 + 1:
                new.force_close()
        if self._timer is None:
            self._look()

    def leave(self, one: LimitedConnection) -> None:
        """Count a connection no more, as it is about to end."""
        if one not in self._open:
            return
        self._open.discard(one)
        self._leaving.add(one)
        self._clients[one.client] -= 1
        if self._clients[one.client] <= 0:
            del self._clients[one.client]
        self.held -= one.held
        one.held = 0

    def forget(self, one: LimitedConnection) -> None:
        """Forget a connection that has ended."""
        self.leave(one)
        self._leaving.discard(one)

    def take(self, one: LimitedConnection, size: int) -> None:
        """Count bytes that a connection holds now; past the budget somebody has to give way."""
        if one not in self._open:
            return
        one.held += size
        self.held += size
        most = self.limits.max_bodies
        if self.held <= (most * 9 // 8 if one.held <= SMALL else most):
            return
        if self._may_look("memory"):
            reading = [other for other in self._open if other.reads_body or other.queues]
            goal = most * 7 // 8
            for other in _heaviest(reading, lambda found: found.held):
                if self.held <= goal:
                    break
                self.leave(other)
                self.report("memory")
                other.halt("too many large requests at once; try again")
            self._looked("memory", found=self.held <= goal)
        if self.held > most:
            self.leave(one)
            self.report("memory")
            one.halt("too many large requests at once; try again")

    def release(self, one: LimitedConnection, size: int) -> None:
        """Count bytes that a connection holds no more."""
        if one in self._open:
            one.held -= size
            self.held -= size

    def report(self, why: str) -> None:
        """Count a connection that is closed or turned away, and say so now and then."""
        self._closed(why)
        if self._lines.take(why):
            log.info("connection_closed", reason=why, connections=len(self._open), held=self.held)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, some: Iterable[LimitedConnection], limit: int, why: str) -> int:
        """Close connections that wait for their client; return how many."""
        if not self._may_look(why):
            return 0
        count = 0
        waiting = [one for one in some if one.waits]
        for one in _heaviest(waiting, lambda _: 1):
            if count > limit // BATCH:
                break
            count += 1
            self.leave(one)
            self.report(why)
            one.halt("too many connections; try again")
        self._looked(why, found=count > 0)
        return count

    def _may_look(self, why: str) -> bool:
        """Tell whether a look over all connections may find any, so soon after the last one."""
        return asyncio.get_running_loop().time() >= self._vain.get(why, 0.0)

    def _looked(self, why: str, *, found: bool) -> None:
        """Note whether a look found any: while all are busy, looking each time would cost more."""
        if not found:
            self._vain[why] = asyncio.get_running_loop().time() + VAIN

    def _look(self) -> None:
        """Close what takes too long."""
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        for one in [*self._open, *self._leaving]:
            why = one.overdue(now)
            if why is not None:
                self.report(why)
        if self._open or self._leaving:
            self._timer = loop.call_later(self.limits.tick, self._look)


def _heaviest(
    some: Iterable[LimitedConnection], weight: Callable[[LimitedConnection], int]
) -> Iterator[LimitedConnection]:
    """Yield connections in the order in which they give way.

    Those of the client that holds most come first, and of one client's those that have been silent
    longest. A proxy's connection counts for the client of its last request.
    """
    clients: dict[str, list[LimitedConnection]] = {}
    for one in some:
        clients.setdefault(one.client or one.speaks_for or str(id(one)), []).append(one)
    by_silence = [sorted(own, key=lambda one: one.heard) for own in clients.values()]
    for own in sorted(by_silence, key=lambda own: (-sum(map(weight, own)), own[0].heard)):
        yield from own


def allow_files(connections: int) -> int:
    """Let the process open as many files as *connections* need; return how many of them it may.

    A quarter of all files is for everything else: vendors, the spool. Without one to accept with,
    nobody would be served.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections * 4 // 3 + SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, soft * 3 // 4))
