"""Erase a person from everything that a running gateway stores."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
import structlog

from gateway.app import Gateway
from gateway.errors import GatewayError, SpoolError
from gateway.event import Event
from gateway.person import Person
from gateway.spool import Entry, ErasableStore, event_index

NOT_ERASABLE = (
    "nobody can be erased from a spool that several gateways share: its messages cannot be "
    "changed; they go once they are delivered, or after max_age"
)

log = structlog.get_logger()


class Erasure(msgspec.Struct, frozen=True):
    """What was taken of a person."""

    deliveries: Mapping[str, int]
    """Pending deliveries, by destination."""
    dead_letters: Mapping[str, int]
    """By destination."""
    requests: int
    """Stored requests that were emptied or deleted."""
    shared_requests: int
    """Requests that also have events of others: they stay stored, with all events, until those are
    delivered and their dead letters deleted. Erase again then."""
    message_ids: int
    """Message ids that were remembered to drop duplicates."""
    consents: int
    """Records of consent."""
    traces: int
    """Records of traces."""


class EventFinder:
    """Finds the events of a person in stored requests.

    It parses each: an id may be encoded in a request, or computed from it.

    Args:
        person: the person.
        hashes: the user hashes of the person's ids in this spool.
        parse: returns the events of a stored request.
    """

    def __init__(
        self, person: Person, hashes: Collection[int], parse: Callable[[Entry], Sequence[Event]]
    ) -> None:
        self._person = person
        self._hashes = frozenset(hashes)
        self._parse = parse

    def __call__(self, entry: Entry) -> Mapping[int, str]:
        """Return the person's events in *entry*, each with its message id or an empty text."""
        try:
            events = self._parse(entry)
        except Exception:  # noqa: BLE001 - the plugin is gone, or no longer reads the request
            return self._of_unreadable(entry)
        return {
            index: event.message_id or ""
            for index, event in enumerate(events)
            if self._person.is_named_by(event)
        }

    def _of_unreadable(self, entry: Entry) -> Mapping[int, str]:
        """Return the events whose user is the person, or the only event if it names the person."""
        events = {event_index(n) for numbers in entry.targets.values() for n in numbers}
        found = {n for n in events if n < len(entry.users) and entry.users[n] in self._hashes}
        if not found and len(events) == 1 and any(map(self._person.is_in, _texts(entry))):
            found = events
        return dict.fromkeys(found, "")


def _texts(entry: Entry) -> Iterable[bytes]:
    request = entry.request
    yield request.body
    yield request.url.encode("utf-8", "surrogatepass")
    if request.client is not None:
        yield request.client.id.encode("utf-8", "surrogatepass")


async def erase(gateway: Gateway, ids: Sequence[str]) -> Erasure:
    """Erase the person with these *ids*, and overwrite what the files held of them.

    Events that are accepted meanwhile may stay. Deliveries under way to the destinations concerned
    end first; further ones wait until the erasure is done.

    Raises:
        SpoolError: the spool fails; some of it may be erased: erase again.
        TraceError: the traces cannot be written; the spool's part is done.
        GatewayError: the spool is of a kind from which nobody can be erased.
    """
    spool, person = gateway.spool, Person(ids)
    if not isinstance(spool, ErasableStore):
        raise GatewayError(NOT_ERASABLE)
    async with gateway.replays.held():
        return await _erase(gateway, spool, person, {*ids, *person.ids})


async def _erase(
    gateway: Gateway, spool: ErasableStore, person: Person, names: set[str]
) -> Erasure:
    finder = EventFinder(person, {gateway.spool.user_hash(one) for one in names}, gateway.parse)
    stopped: frozenset[str] = frozenset()
    taken, found = None, await spool.find_events(finder)
    while taken is None:
        stopped = stopped.union(found.destinations)
        async with standstill(gateway, stopped):
            found = await spool.find_events(finder)
            if stopped.issuperset(found.destinations):  # else new events go to others, too
                consents = gateway.consents.forget(names, gateway.config.sources)
                taken = await spool.erase_events(found, consents)
    gateway.consents.forget(names, gateway.config.sources)
    await spool.overwrite_erased()
    traces = await gateway.observer.erase(person)
    result = Erasure(**msgspec.structs.asdict(taken), traces=traces)
    log.info(
        "person_erased",
        ids=len(person.ids),
        deliveries=sum(result.deliveries.values()),
        dead_letters=sum(result.dead_letters.values()),
        requests=result.requests,
        shared_requests=result.shared_requests,
        consents=result.consents,
        traces=result.traces,
    )
    return result


@asynccontextmanager
async def standstill(gateway: Gateway, names: Collection[str]) -> AsyncIterator[None]:
    """Deliver nothing to some destinations within the body; events go on being accepted.

    Their teams are replaced by new ones, which read what is pending from the spool.
    """
    old = {name: team for name, team in gateway.teams.items() if name in names}
    made = [gateway.make_team(name, team.configured) for name, team in old.items()]
    try:
        grace = gateway.config.server.drain_timeout
        await asyncio.gather(*(team.stop(grace) for team in old.values()))
        yield
    finally:
        for team in made:
            gateway.start_team(team, paused=old[team.name].paused)
        for team in made:
            if old[team.name].drains:
                with suppress(SpoolError):  # deliveries are then retried at their due times
                    await team.drain()
