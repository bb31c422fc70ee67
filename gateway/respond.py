"""Handing back the vendor's own answer to events, where a source asks for it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.credentials import secrets_in
from gateway.delivery.attempt import Sender
from gateway.event import Event
from gateway.exchange import Response
from gateway.masking import AS_IT_IS, Masking
from gateway.plugin import Input
from gateway.redact import secrets_of
from gateway.spool import Item


class Asks(Protocol):
    """A worker, as far as those who ask it for an answer know it."""

    @property
    def sender(self) -> Sender:
        """Return who sends, and gets the answers."""

    def prompt(self, user: str) -> bool:
        """Tell whether an event of *user* that is offered now would go as soon as it may."""


class Asking:
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

    def begin(self, item: Item, events: Sequence[Event], workers: Mapping[str, Asks]) -> None:
        """Ask the first destination that gets all of *item*; it has not been offered yet."""
        for name, indexes in item.entry.targets.items():
            worker = workers.get(name)
            if worker is None or len(indexes) < len(events):
                continue
            rendering = worker.sender.rendering
            if rendering.passes_on(self._reads.name):
                if worker.prompt(events[0].user_key):
                    presented = secrets_in(item.entry.request, self._reads)
                    self._masking = Masking(secrets_of(rendering.output.config), presented)
                    self._answer = worker.sender.answers.ask(item.entry.id)
                return

    async def answer(self) -> Response | None:
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
