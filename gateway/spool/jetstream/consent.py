"""The stored consent of users: one message per user, changed by compare-and-set."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from gateway.spool.clock import Clock
from gateway.spool.consent import merge_consent, pack_consent, unpack_consent
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.messages import WrongSequence
from gateway.spool.values import ConsentRecord, StoredConsent

CLOCKS_DIFFER = 300.0
"""Seconds that a message stays after its time: the servers' clocks differ from the gateways'."""

_TOGETHER = 64
"""Users that are read at a time."""


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    until: float
    """Unix seconds."""
    words: bytes


class _Known(NamedTuple):
    seq: int
    """Of the message; 0 if there is none."""
    until: float
    words: dict[str, ConsentRecord]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


class ConsentStore:
    """Stores consent for all gateways of a cluster.

    It is read from the server that leads, so a word that was answered is seen by every gateway.

    Args:
        connection: of this gateway.
        layout: names stream and subjects.
        clock: of this gateway's spool.
    """

    def __init__(self, connection: NatsConnection, layout: Layout, clock: Clock) -> None:
        self._connection, self._layout, self._clock = connection, layout, clock

    async def save(
        self, records: Mapping[bytes, Mapping[str, ConsentRecord]], window: float
    ) -> None:
        """Store users' consent for *window* seconds (see ``Intake.save_consent``)."""
        await asyncio.gather(*[self._save(user, words, window) for user, words in records.items()])

    async def load(self, users: Sequence[bytes]) -> dict[bytes, dict[str, ConsentRecord]]:
        """Return the stored consent of users; those without any are left out."""
        found = await asyncio.gather(*[self._read(user) for user in users])
        return {user: one.words for user, one in zip(users, found, strict=True) if one.words}

    async def all(self) -> AsyncIterator[list[StoredConsent]]:
        """Yield the stored consent of all users, some at a time."""
        subjects = await self._connection.subjects(
            self._layout.consent_stream, self._layout.consents
        )
        everybody = [bytes.fromhex(subject.rpartition(".")[2]) for subject in subjects]
        for start in range(0, len(everybody), _TOGETHER):
            users = everybody[start : start + _TOGETHER]
            found = await asyncio.gather(*[self._read(user) for user in users])
            yield [
                StoredConsent(user, one.until, one.words)
                for user, one in zip(users, found, strict=True)
                if one.words
            ]

    async def restore(self, consents: Sequence[StoredConsent]) -> None:
        """Store consent of another spool (see ``SpoolTransfer.restore_consents``)."""
        saved = [self._save(one.user, one.records, until=one.until) for one in consents]
        await asyncio.gather(*saved)

    async def _save(
        self,
        user: bytes,
        words: Mapping[str, ConsentRecord],
        window: float = 0.0,
        *,
        until: float = 0.0,
    ) -> None:
        """Store a user's words for *window* seconds, or without it *until* then at least."""
        while True:
            known, now = await self._read(user), self._clock.now()
            end = now + window if window else max(until, known.until)
            merged = pack_consent(merge_consent(known.words, words))
            try:
                await self._connection.store_for(
                    max(1.0, end - now + CLOCKS_DIFFER),
                    self._layout.consent(user),
                    _encode(_Stored(end, merged)),
                    known.seq,
                )
            except WrongSequence:
                continue  # another gateway's word, or our own that is stored already
            return

    async def _read(self, user: bytes) -> _Known:
        """Return a user's message and what it says."""
        message = await self._connection.last(
            self._layout.consent_stream, self._layout.consent(user)
        )
        if message is None:
            return _Known(0, 0.0, {})
        stored = _decode(message.data)
        words = unpack_consent(stored.words) if stored.until > self._clock.sure() else {}
        return _Known(message.seq, stored.until, words)
