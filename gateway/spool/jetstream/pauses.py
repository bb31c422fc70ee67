"""The destinations that operators paused: one message for the whole cluster."""

from collections.abc import Callable

import msgspec

from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.follower import Follower
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.messages import WrongSequence

_encode = msgspec.msgpack.Encoder(order="sorted").encode
_decode = msgspec.msgpack.Decoder(frozenset[str]).decode


class PausedDestinations:
    """Stores which destinations are paused; read from the server that leads.

    Args:
        connection: of this gateway.
        layout: names stream and subject.
    """

    def __init__(self, connection: NatsConnection, layout: Layout) -> None:
        self._connection, self._layout = connection, layout

    async def names(self) -> frozenset[str]:
        """Return the destinations that are paused."""
        return (await self._read())[1]

    def follow(self, listener: Callable[[frozenset[str]], None]) -> Follower:
        """Return what tells, once started, which destinations are paused, at each change."""
        return Follower(
            self._connection,
            self._layout.config_stream,
            self._layout.paused,
            1,
            lambda message: listener(_decode(message.data)),
        )

    async def pause(self, destination: str, *, paused: bool) -> None:
        """Store whether a destination is paused."""
        while True:
            last, names = await self._read()
            wanted = names | {destination} if paused else names - {destination}
            if wanted == names:
                return
            try:
                await self._connection.store(self._layout.paused, _encode(wanted), expected=last)
            except WrongSequence:
                continue  # another gateway's change, or our own that is stored already
            if last:
                await self._connection.delete(self._layout.config_stream, last)
            return

    async def _read(self) -> tuple[int, frozenset[str]]:
        found = await self._connection.last(self._layout.config_stream, self._layout.paused)
        return (found.seq, _decode(found.data)) if found else (0, frozenset())
