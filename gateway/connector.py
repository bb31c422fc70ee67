"""Connections to vendors: an answer that never begins holds nothing up.

A server may send any number of interim answers (1xx) before its answer. aiohttp reads over them
without a bound, and without a pause as long as there are any.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage

INTERIM = 64
"""Interim answers before an answer; servers send one or two."""
PIECE = 2048
"""Bytes that are parsed at once before the head of an answer is complete."""
FINAL = 200


class Connector(aiohttp.TCPConnector):
    """aiohttp's, with connections that give up what sends interim answers without end."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        made: Callable[..., ResponseHandler] = _Connection
        self._factory = partial(made, loop=self._loop)


class _Connection(ResponseHandler):
    """One connection to a server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._interim = 0

    @property
    def _awaits_head(self) -> bool:
        """Tell whether an answer's head is to come, and none was one too many."""
        body = self._payload
        return self.exception() is None and (body is None or body.is_eof())

    def data_received(self, data: bytes) -> None:
        """Parse what came, in small pieces until the head of the answer is complete."""
        start = 0
        while start + PIECE < len(data) and self._awaits_head:
            super().data_received(data[start : start + PIECE])
            start += PIECE
        if self._interim <= INTERIM:
            super().data_received(data[start:] if start else data)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Hand over the head of an answer, unless it is one interim answer too many."""
        message: RawResponseMessage = data[0]
        self._interim = self._interim + 1 if message.code < FINAL else 0
        if self._interim > INTERIM:
            if self.transport is not None:
                self.transport.close()
            self.set_exception(aiohttp.ClientPayloadError("interim answers without end"))
            return
        super().feed_data(data, size)
