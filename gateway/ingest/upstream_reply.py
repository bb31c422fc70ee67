"""Handing back the vendor's own answer to events, where a source asks for it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from gateway.event import Event
from gateway.http import Response
from gateway.ingest.response_masking import AS_IT_IS, Masking
from gateway.plugin.client_credentials import client_secrets
from gateway.plugin.vendor import Input
from gateway.spool import LogRecord


class ReplySource(Protocol):
    """A destination whose vendor's response can be waited for."""

    def forwards_from(self, vendor: str) -> bool:
        """Tell whether requests in a vendor's format go on as they came."""

    def own_secrets(self) -> Iterable[str]:
        """Return the destination's own credentials."""

    def wait_for_reply(self, request_id: str) -> "asyncio.Future[Response | None]":
        """Return what will be the response to a request; None where there is none."""

    def sends_now(self, user: str) -> bool:
        """Tell whether an event of *user* that is offered now would go as soon as it may."""


class UpstreamReply:
    """The wait for one vendor's answer to one request.

    Args:
        reads: of the vendor whose format the request is in.
        patience: seconds to wait, from when the request is safe.
    """

    def __init__(self, reads: Input, patience: float) -> None:
        self._reads = reads
        self._patience = patience
        self._masking = AS_IT_IS
        self._answer: asyncio.Future[Response | None] | None = None

    def register(
        self, item: LogRecord, events: Sequence[Event], workers: Mapping[str, ReplySource]
    ) -> None:
        """Ask the first destination that gets all of *item*; it has not been offered yet."""
        for name, indexes in item.entry.targets.items():
            worker = workers.get(name)
            if worker is None or len(indexes) < len(events):
                continue
            if worker.forwards_from(self._reads.name):
                if worker.sends_now(events[0].user_key):
                    presented = client_secrets(item.entry.request, self._reads)
                    self._masking = Masking(worker.own_secrets(), presented)
                    self._answer = worker.wait_for_reply(item.entry.id)
                return

    async def wait(self) -> Response | None:
        """Return the vendor's answer; None where the gateway should answer by itself.

        A vendor may repeat what it was sent, the destination's credential included: that stays
        here, unless the client sent the same.
        """
        if self._answer is None:
            return None
        try:
            async with asyncio.timeout(self._patience):
                found = await self._answer
        except TimeoutError:
            return None
        return self._masking.response(found) if found and self._masking.hides else found
