"""Take over what another spool holds, in batches that may be repeated."""

import asyncio
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from gateway.errors import GatewayError
from gateway.spool.dead_letters import DeadLetter
from gateway.spool.dedup import dedup_key
from gateway.spool.interface import Spool
from gateway.spool.moved import LATEST, MovedBatch, MovedEntry, MovedLetter
from gateway.spool.rows import unpack, unpack_attempts
from gateway.spool.values import (
    MOVE_WINDOW,
    Attempt,
    DedupWindow,
    DeliveryRef,
    Entry,
    SpoolFull,
    StoredConsent,
    copy_number,
    event_index,
)

_EVENTS = 1_000_000
"""More than the events of any request, or the deliveries of an event to a destination."""
_RETRY_AFTER = 1.0

T = TypeVar("T")


class InvalidBatch(GatewayError):
    """A part of a batch is nothing that a spool holds; the text begins with its path."""


class UnknownDestinations(GatewayError):
    """The new spool does not have a destination of a batch."""


async def restore(
    spool: Spool, batch: MovedBatch, user_keys: Callable[[Entry], Sequence[str]]
) -> None:
    """Store a batch of another spool; done when it is durable.

    Events of a user are stored one after the other, so that a failure leaves no gap. Raises
    SpoolFull if a destination accepts nothing now, and SpoolError for other failures: send the
    batch again. Raises InvalidBatch and UnknownDestinations before anything is stored.

    Args:
        spool: the new spool.
        batch: what to store.
        user_keys: returns the ordering key of each event of an entry; none if it is unreadable.
    """

    def hashes(entry: Entry) -> tuple[int, ...]:
        return tuple(spool.user_hash(key) for key in user_keys(entry))

    entries, letters = await asyncio.to_thread(_checked, batch, hashes)
    used = {name for _, entry in entries for name in entry.targets}
    used |= {letter.destination for letter in letters.values()}
    if unknown := used - (await spool.depths()).keys():
        raise UnknownDestinations(f"unknown destinations: {', '.join(sorted(unknown))}")
    _check_room(spool, {name for _, entry in entries for name in entry.targets})
    if batch.message_ids:
        await spool.restore_message_ids({one.key: one.until for one in batch.message_ids})
    if batch.consents:
        stored = [StoredConsent(one.user, one.until, one.records) for one in batch.consents]
        await spool.restore_consents(stored)
    for wave in waves(entries, lambda one: one[1].users):
        await together([_append(spool, batch.origin, one, entry) for one, entry in wave])
    if letters:
        await spool.restore_dead_letters(letters)


def _checked(
    batch: MovedBatch, hashes: Callable[[Entry], tuple[int, ...]]
) -> tuple[list[tuple[MovedEntry, Entry]], dict[bytes, DeadLetter]]:
    """Return the entries and dead letters of a batch, unpacked, with other user hashes.

    Raises:
        InvalidBatch: a part is invalid.
    """
    entries = [
        (one, _entry(one, hashes, f"$.entries[{place}]")) for place, one in enumerate(batch.entries)
    ]
    letters = {}
    for place, one in enumerate(batch.dead_letters):
        path = f"$.dead_letters[{place}]"
        letter = _letter(one, _entry(one.entry, hashes, f"{path}.entry"), path)
        letters[dedup_key("", f"moved letter {batch.origin} {one.number}")] = letter
    return entries, letters


def _entry(one: MovedEntry, hashes: Callable[[Entry], tuple[int, ...]], path: str) -> Entry:
    try:
        entry = unpack(one.id, one.meta, one.body)
    except (msgspec.DecodeError, ValueError) as error:  # a text that is not UTF-8
        raise InvalidBatch(f"{path}.meta: {error}") from None
    texts = (entry.source, entry.vendor, entry.request.id, *entry.targets)
    if any("\0" in text for text in texts):
        raise InvalidBatch(f"{path}.meta: a name or an id with a NUL")
    numbers = [n for some in entry.targets.values() for n in some]
    if any(n < 0 or copy_number(n) >= _EVENTS for n in numbers):
        raise InvalidBatch(f"{path}.meta: a delivery with an invalid number")
    last = max(map(event_index, numbers), default=0)
    users = hashes(entry)
    if last >= (max(len(users), len(entry.users)) or _EVENTS):
        raise InvalidBatch(f"{path}.meta: a delivery of event {last}, which the request lacks")
    # Another version of a plugin may find fewer events: then the users are unknown.
    return replace(entry, users=users if last < len(users) else ())


def _is_time(at: float) -> bool:
    return 0 <= at <= LATEST  # false for NaN


def _check_room(spool: Spool, destinations: Collection[str]) -> None:
    refusing = spool.refusing()
    why = spool.health() or "; ".join(refusing[n] for n in destinations if n in refusing)
    if why:
        raise SpoolFull(why, _RETRY_AFTER)


async def _append(spool: Spool, origin: int, one: MovedEntry, entry: Entry) -> None:
    await spool.append(entry, None, _once(origin, one, entry), one.at)


async def together(appends: Iterable[Awaitable[None]]) -> None:
    """Wait for all, then raise the first error."""
    for result in await asyncio.gather(*appends, return_exceptions=True):
        if result is not None:
            raise result


def _once(origin: int, one: MovedEntry, entry: Entry) -> DedupWindow:
    """Return a key for each event, so that a repeat of the entry is left out."""
    events = {event_index(n) for numbers in entry.targets.values() for n in numbers}
    ids = {event: f"\0moved {origin} {one.number} {event}" for event in events}
    return DedupWindow(ids, MOVE_WINDOW)


def waves(items: Sequence[T], users_of: Callable[[T], Iterable[int]]) -> list[list[T]]:
    """Return *items* in groups, each of which has at most one of a user, in the users' order.

    Args:
        items: what to store.
        users_of: returns the user hashes of an item; 0 is nobody.
    """
    groups: list[list[T]] = []
    following: dict[int, int] = {}
    for one in items:
        users = {user for user in users_of(one) if user}
        place = max((following.get(user, 0) for user in users), default=0)
        following |= dict.fromkeys(users, place + 1)
        if place == len(groups):
            groups.append([])
        groups[place].append(one)
    return groups


def _letter(one: MovedLetter, entry: Entry, path: str) -> DeadLetter:
    if one.index not in entry.targets.get(one.destination, ()):
        what = f"the request has no delivery {one.index} to {one.destination!r}"
        raise InvalidBatch(f"{path}.index: {what}")
    return DeadLetter(
        id=one.number,
        destination=one.destination,
        mark=DeliveryRef(one.entry.number, one.index),
        entry=entry,
        cause=one.cause,
        reason=one.reason,
        at=one.at,
        attempts=_unpacked_attempts(one.attempts, path),
        rendered=one.rendered,
        event_name=one.event_name,
        user=one.user,
    )


def _unpacked_attempts(packed: bytes, path: str) -> tuple[Attempt, ...]:
    try:
        attempts = unpack_attempts(packed)
    except (msgspec.DecodeError, ValueError) as error:  # a text that is not UTF-8
        raise InvalidBatch(f"{path}.attempts: {error}") from None
    figures = [figure for one in attempts for figure in (one.at, one.latency, one.isolated)]
    if not all(map(_is_time, figures)):
        raise InvalidBatch(f"{path}.attempts: a time or a share out of range")
    return attempts
