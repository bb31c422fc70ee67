"""The stored consent of users: one message per user, changed by compare-and-set."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from gateway.spool.clock import Clock
from gateway.spool.consent import merge_consent, pack_consent, unpack_consent
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.messages import WrongSequence
from gateway.spool.values import ConsentRecord

CLOCKS_DIFFER = 300.0
"""Seconds that a message stays after its time: the servers' clocks differ from the gateways'."""


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    until: float
    """Unix seconds."""
    words: bytes


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
        return {user: words for user, (_, words) in zip(users, found, strict=True) if words}

    async def _save(self, user: bytes, words: Mapping[str, ConsentRecord], window: float) -> None:
        while True:
            last, known = await self._read(user)
            merged = pack_consent(merge_consent(known, words))
            try:
                await self._connection.store_for(
                    window + CLOCKS_DIFFER,
                    self._layout.consent(user),
                    _encode(_Stored(self._clock.now() + window, merged)),
                    last,
                )
            except WrongSequence:
                continue  # another gateway's word, or our own that is stored already
            return

    async def _read(self, user: bytes) -> tuple[int, dict[str, ConsentRecord]]:
        """Return the sequence of a user's message, 0 if there is none, and what it says."""
        message = await self._connection.last(
            self._layout.consent_stream, self._layout.consent(user)
        )
        if message is None:
            return 0, {}
        stored = _decode(message.data)
        words = unpack_consent(stored.words) if stored.until > self._clock.sure() else {}
        return message.seq, words
