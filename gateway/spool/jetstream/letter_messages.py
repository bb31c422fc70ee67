"""Dead letters as messages: an entry, and the letters of its deliveries to one destination."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from gateway.spool.dead_letters import (
    DeadLetter,
    DeadLetterFilter,
    reason_pattern,
    replay_reason,
)
from gateway.spool.jetstream.frames import ReplayedLetter
from gateway.spool.jetstream.layout import MAX_ROWS, seq_of
from gateway.spool.jetstream.messages import StoredMessage
from gateway.spool.rows import pack, pack_attempts, unpack, unpack_attempts
from gateway.spool.values import Cause, DeliveryRef, Entry, FailedDelivery

_OVERHEAD = 1024
"""Bytes of a message besides its bodies."""


class LetterRow(msgspec.Struct, frozen=True, array_like=True):
    """A delivery that was given up."""

    index: int
    cause: Cause
    reason: str
    at: float
    attempts: bytes
    rendered: bytes
    event_name: str
    user: str


class LetterMessage(msgspec.Struct, frozen=True, array_like=True):
    """The letters of one entry and destination, as they were reported together."""

    destination: str
    seq: int
    id: str
    meta: bytes
    body: bytes
    letters: list[LetterRow]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LetterMessage).decode


def letter_messages(
    destination: str,
    dead: Sequence[FailedDelivery],
    entries: Mapping[int, Entry],
    max_bytes: int,
) -> Iterator[bytes]:
    """Yield messages with all letters whose entry is there.

    The rendered request is left out where the message would exceed *max_bytes*.
    """
    by_entry: dict[int, list[FailedDelivery]] = {}
    for failed in dead:
        by_entry.setdefault(failed.mark.seq, []).append(failed)
    for seq, group in by_entry.items():
        if (entry := entries.get(seq)) is None:
            continue
        row = (destination, seq, entry.id, pack(entry), entry.request.body)
        room = max_bytes - _OVERHEAD - len(row[3]) - len(row[4])
        letters: list[LetterRow] = []
        left = room
        for failed in group:
            letter = _letter_row(failed)
            size = _OVERHEAD + len(letter.attempts) + len(letter.reason.encode())
            if letters and (size > left or len(letters) == MAX_ROWS):
                yield _encode((*row, letters))
                letters, left = [], room
            left -= size
            if len(letter.rendered) > left:
                letter = msgspec.structs.replace(letter, rendered=b"")
            left -= len(letter.rendered)
            letters.append(letter)
        yield _encode((*row, letters))


def read_letters(message: StoredMessage) -> list[DeadLetter]:
    """Return the letters of a message; an id is the message's sequence and a letter's place."""
    found = _decode(message.data)
    entry = unpack(found.id, found.meta, found.body)
    return [
        DeadLetter(
            id=seq_of(message.seq, place),
            destination=found.destination,
            mark=DeliveryRef(found.seq, row.index),
            entry=entry,
            cause=row.cause,
            reason=row.reason,
            at=row.at,
            attempts=unpack_attempts(row.attempts),
            rendered=row.rendered,
            event_name=row.event_name,
            user=row.user,
        )
        for place, row in enumerate(found.letters)
    ]


def restored_letter(key: bytes, letter: DeadLetter, max_bytes: int) -> bytes:
    """Return the message of a dead letter of another spool, given the key that names it for good.

    Its place in the log is below 0, and no other letter's.
    """
    seq = -1 - int.from_bytes(key[:7])
    mark = DeliveryRef(seq, letter.mark.index)
    failed = FailedDelivery(
        mark, letter.cause, letter.reason, letter.at, letter.attempts, letter.rendered,
        letter.event_name, letter.user,
    )  # fmt: skip
    (message,) = letter_messages(letter.destination, [failed], {seq: letter.entry}, max_bytes)
    return message


def destination_of(message: bytes) -> str:
    """Return the destination of a message's letters."""
    return _decode(message).destination


def replay_groups(letters: Sequence[DeadLetter]) -> list[tuple[Entry, list[ReplayedLetter]]]:
    """Return the entries that replay letters, in their order, and which letter each replays.

    Letters of one entry and destination share an entry, unless they are of the same delivery.
    """
    groups: dict[tuple[str, int, int], dict[int, DeadLetter]] = {}
    for letter in letters:
        name, mark, again = letter.destination, letter.mark, 0
        while mark.index in groups.get((name, mark.seq, again), {}):
            again += 1
        groups.setdefault((name, mark.seq, again), {})[mark.index] = letter
    return [
        (
            msgspec.structs.replace(
                next(iter(group.values())).entry, targets={name: tuple(sorted(group))}
            ),
            [
                ReplayedLetter(
                    one.id, index, one.user, one.event_name, replay_reason(one.cause, one.reason)
                )
                for index, one in group.items()
            ],
        )
        for (name, _, _), group in groups.items()
    ]


def matches(which: DeadLetterFilter, letter: DeadLetter) -> bool:
    """Return whether a filter selects a letter."""
    exact = (
        (which.destination, letter.destination),
        (which.event_name, letter.event_name),
        (which.user, letter.user),
        (which.cause, letter.cause),
        (which.reason_pattern, reason_pattern(letter.reason)),
        (which.request, letter.entry.id),
        (which.event, letter.index),
    )
    return (
        all(wanted is None or wanted == found for wanted, found in exact)
        and (which.reason is None or which.reason.lower() in letter.reason.lower())
        and (which.since is None or letter.at >= which.since)
        and (which.until is None or letter.at < which.until)
    )


def _letter_row(failed: FailedDelivery) -> LetterRow:
    return LetterRow(
        failed.mark.index, failed.cause, failed.reason, failed.at, pack_attempts(failed.attempts),
        failed.rendered, failed.event_name, failed.user,
    )  # fmt: skip
