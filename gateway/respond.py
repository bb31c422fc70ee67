"""Handing back the vendor's own answer to events, where a source asks for it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.delivery.attempt import Sender
from gateway.event import Event
from gateway.exchange import Response
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
        vendor: whose format the request is in.
        patience: seconds to wait, from when the request is safe.
    """

    def __init__(self, vendor: str, patience: float) -> None:
        self._vendor = vendor
        self._patience = patience
        self._answer: asyncio.Future[Response | None] | None = None

    def begin(self, item: Item, events: Sequence[Event], workers: Mapping[str, Asks]) -> None:
        """Ask the first destination that gets all of *item*; it has not been offered yet."""
        for name, indexes in item.entry.targets.items():
            worker = workers.get(name)
            if worker is None or len(indexes) < len(events):
                continue
            if worker.sender.rendering.passes_on(self._vendor):
                if worker.prompt(events[0].user_key):
                    self._answer = worker.sender.answers.ask(item.entry.id)
                return

    async def answer(self) -> Response | None:
        """Return the vendor's answer; None where the gateway should answer by itself."""
        if self._answer is None:
            return None
        try:
            async with asyncio.timeout(self._patience):
                return await self._answer
        except TimeoutError:
            return None
