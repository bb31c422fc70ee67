"""Limits over all connections: their number, and their memory.

At a limit the client with most connections or bytes is closed first, and of its connections the one
that was silent longest, so that complete requests are always served. A connection that

    waits for a request or its head   is closed
    waits for the rest of a body      gets "try again" in the vendor's format, and is closed
    waits for the gateway's response  stays
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import structlog

from gateway.errors import RefusalCause, Unavailable
from gateway.log_limit import LogLimit

SPARE = 256
"""Open files for other purposes than clients' connections."""
SMALL = 16 * 1024
"""Bytes that a connection may use although the limit is reached, up to an eighth above the limit:
large requests may take a while to process."""
BATCH = 64
"""A search for connections to close covers all of them, so it closes 1/64 of a limit at once."""
VAIN = 0.05
"""Seconds until the next search after one that found nothing to close."""
QUIET = 10.0
"""Seconds between two log lines of the same reason."""

log = structlog.get_logger()


class ConnectionRefusal(NamedTuple):
    """Why the requests of a connection are refused."""

    cause: RefusalCause
    reason: str

    def error(self) -> Unavailable:
        """Return an error to raise."""
        return Unavailable(self.reason, self.cause)


TOO_MANY = ConnectionRefusal(RefusalCause.CONNECTION_LIMIT, "too many connections; try again")
TOO_MANY_OF_CLIENT = ConnectionRefusal(
    RefusalCause.CONNECTION_LIMIT, "too many connections from this address; try again"
)
TOO_LARGE = ConnectionRefusal(RefusalCause.MEMORY, "too many large requests; try again")
STOPPING = ConnectionRefusal(RefusalCause.NOT_ACCEPTING, "shutting down; try again")
BODY_LATE = ConnectionRefusal(RefusalCause.BODY_TIMEOUT, "the body was sent too slowly; try again")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits and timeouts of clients' connections; times in seconds, sizes in bytes."""

    header_timeout: float = 15.0
    body_timeout: float = 30.0
    idle_timeout: float = 75.0
    max_connections: int = 4096
    per_client: int = 2048
    """Connections from one address, except a trusted proxy's."""
    max_headers: int = 32 * 1024
    max_bodies: int = 64 * 1024 * 1024
    """Bytes of unanswered requests, over all connections."""

    @property
    def tick(self) -> float:
        """Return the seconds between two checks of timeouts."""
        return min(1.0, max(0.02, min(self.header_timeout, self.body_timeout) / 10))


class LimitedConnection(Protocol):
    """A connection, as the `Guard` sees it.

    Attributes:
        client: the peer's address; empty for a proxy, which has many clients.
        speaks_for: the client's address of the last request through a proxy.
        heard: loop time of the last data from the client.
        held: bytes of requests that were received and not yet answered.
        refusal: why its requests are refused; None if they are not.
    """

    client: str
    speaks_for: str
    heard: float
    held: int
    refusal: ConnectionRefusal | None

    @property
    def reads_body(self) -> bool:
        """Return whether a request's body is incomplete."""

    @property
    def queues(self) -> bool:
        """Return whether further requests wait behind the current one."""

    @property
    def waits(self) -> bool:
        """Return whether the connection waits for data from the client."""

    def halt(self, refusal: ConnectionRefusal) -> None:
        """Stop waiting for the client."""

    def turn_away(self, refusal: ConnectionRefusal) -> None:
        """Respond "try again" to the first request, and close."""

    def overdue(self, now: float) -> str | None:
        """Close the connection if a timeout has passed; return its name, or None."""

    def force_close(self) -> None:
        """Close at once."""


class Guard:
    """Applies the limits to all connections of an application, and reports closed ones.

    Args:
        limits: the limits.
        trusts: returns whether an address is that of a trusted proxy.
        closed: called with the reason for each connection that is closed or refused.
        unreadable: called with the kind of error for each request that is not valid HTTP.
        late: called for each request whose line and headers were sent too slowly.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        trusts: Callable[[str], bool],
        closed: Callable[[str], None],
        unreadable: Callable[[str], None],
        late: Callable[[], None],
    ) -> None:
        self.limits = limits
        self.trusts = trusts
        self.unreadable = unreadable
        self.late = late
        self.held = 0
        """Bytes of unanswered requests."""
        self._closed = closed
        self._open: set[LimitedConnection] = set()
        self._leaving: set[LimitedConnection] = set()
        self._clients = Counter[str]()
        self._timer: asyncio.TimerHandle | None = None
        self._lines = LogLimit(1, QUIET)
        self._vain: dict[str, float] = {}

    def __len__(self) -> int:
        """Return the number of connections."""
        return len(self._open)

    def admit(self, new: LimitedConnection) -> None:
        """Add a connection; at a limit close others, or refuse it if none can be closed."""
        limits = self.limits
        self._open.add(new)
        client = new.client
        self._clients[client] += 1
        if client and self._clients[client] > limits.per_client:
            own = [one for one in self._open if one.client == client and one is not new]
            if not self._close(own, limits.per_client, "client_limit"):
                new.turn_away(TOO_MANY_OF_CLIENT)
        elif len(self._open) > limits.max_connections:
            others = [one for one in self._open if one is not new]
            if not self._close(others, limits.max_connections, "limit"):
                new.turn_away(TOO_MANY)
        if new.refusal:
            self.report("refused")
            if len(self._open) > limits.max_connections + limits.max_connections // 16 + 1:
                new.force_close()
        if self._timer is None:
            self._look()

    def leave(self, one: LimitedConnection) -> None:
        """Stop counting a connection that is about to end."""
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
        """Remove a connection that has ended."""
        self.leave(one)
        self._leaving.discard(one)

    def take(self, one: LimitedConnection, size: int) -> None:
        """Count further bytes of a connection; above the limit close others, or this one."""
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
                other.halt(TOO_LARGE)
            self._looked("memory", found=self.held <= goal)
        if self.held > most:
            self.leave(one)
            self.report("memory")
            one.halt(TOO_LARGE)

    def release(self, one: LimitedConnection, size: int) -> None:
        """Release bytes of a connection."""
        if one in self._open:
            one.held -= size
            self.held -= size

    def report(self, why: str) -> None:
        """Count a closed or refused connection, and log it at a limited rate."""
        self._closed(why)
        if self._lines.take(why):
            log.info("connection_closed", reason=why, connections=len(self._open), held=self.held)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, some: Iterable[LimitedConnection], limit: int, why: str) -> int:
        """Close some connections that wait for their client; return their number."""
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
            one.halt(TOO_MANY)
        self._looked(why, found=count > 0)
        return count

    def _may_look(self, why: str) -> bool:
        """Return whether to search all connections again, after a search that found nothing."""
        return asyncio.get_running_loop().time() >= self._vain.get(why, 0.0)

    def _looked(self, why: str, *, found: bool) -> None:
        """Record whether a search found any; while all are busy, searches would cost too much."""
        if not found:
            self._vain[why] = asyncio.get_running_loop().time() + VAIN

    def _look(self) -> None:
        """Close connections whose timeout has passed."""
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
    """Yield connections in the order in which they are closed.

    Those of the client with the highest total weight come first, and of one client those that were
    silent longest. A proxy's connection counts for the client of its last request.
    """
    clients: dict[str, list[LimitedConnection]] = {}
    for one in some:
        clients.setdefault(one.client or one.speaks_for or str(id(one)), []).append(one)
    by_silence = [sorted(own, key=lambda one: one.heard) for own in clients.values()]
    for own in sorted(by_silence, key=lambda own: (-sum(map(weight, own)), own[0].heard)):
        yield from own


def allow_files(connections: int) -> int:
    """Raise the limit of open files for *connections*; return how many connections are possible.

    A quarter of all files stays for vendors and the spool. Without a free file the server could
    not even accept a connection.
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
