"""Return the vendor's own response to events, if a source asks for it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from gateway.event import Event
from gateway.http import Response
from gateway.ingest.response_masking import AS_IT_IS, Masking
from gateway.plugin.client_credentials import client_secrets
from gateway.plugin.vendor import Input
from gateway.spool import LogRecord


class ReplySource(Protocol):
    """A destination whose vendor's response can be awaited."""

    def forwards_from(self, vendor: str) -> bool:
        """Return whether requests in a vendor's format are forwarded unchanged."""

    def own_secrets(self) -> Iterable[str]:
        """Return the secrets in the destination's settings."""

    def wait_for_reply(self, request_id: str) -> "asyncio.Future[Response | None]":
        """Return a future of the vendor's response to a request; its result may be None."""

    def sends_now(self, user: str) -> bool:
        """Return whether a new event of *user* would be sent without waiting behind others."""


class UpstreamReply:
    """Waits for a vendor's response to one request.

    Args:
        reads: input of the vendor whose format the request is in.
        patience: seconds to wait after the request was stored.
    """

    def __init__(self, reads: Input, patience: float) -> None:
        self._reads = reads
        self._patience = patience
        self._masking = AS_IT_IS
        self._answer: asyncio.Future[Response | None] | None = None

    def register(
        self,
        item: LogRecord,
        events: Sequence[Event],
        worker_of: Callable[[str], ReplySource | None],
    ) -> None:
        """Register at the first destination of all events of *item*, before it is offered."""
        for name, indexes in item.entry.targets.items():
            worker = worker_of(name)
            if worker is None or len(indexes) < len(events):
                continue
            if worker.forwards_from(self._reads.name):
                if worker.sends_now(events[0].user_key):
                    presented = client_secrets(item.entry.request, self._reads)
                    self._masking = Masking(worker.own_secrets(), presented)
                    self._answer = worker.wait_for_reply(item.entry.id)
                return

    async def wait(self) -> Response | None:
        """Return the vendor's response; None if the gateway should respond itself.

        A vendor may repeat the destination's key in it. The key is masked, unless the client sent
        the same one.
        """
        if self._answer is None:
            return None
        try:
            async with asyncio.timeout(self._patience):
                found = await self._answer
        except TimeoutError:
            return None
        return self._masking.response(found) if found and self._masking.hides else found
