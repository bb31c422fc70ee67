"""What stands in a shadow's worker where others send."""

import asyncio
import time
from collections.abc import Sequence

import structlog

from gateway.delivery.attempt import HOUR, Outcome, Sender, Shadowed
from gateway.delivery.job import Job
from gateway.delivery.rendering import Rendering
from gateway.errors import TransportError, Unrenderable
from gateway.event import Event
from gateway.exchange import Declined, Delivered, Refused, Request, RetryLater
from gateway.losses.fates import fates
from gateway.mapping import SILENT, filled
from gateway.redact import Redactor
from gateway.shadow.beside import Beside
from gateway.shadow.tally import Tally
from gateway.transport import Transport

PAUSE = 30.0
"""Seconds in which a test account that was in trouble is not asked again."""
LOOKED = Outcome(Shadowed(), None)

log = structlog.get_logger()


class ShadowSender(Sender):
    """Renders an event, notes what became of it, and sends it to a test account if it is to.

    Nothing is tried again: what a shadow cannot do now it has missed, so that it never falls
    behind for long. It never fails either, whatever the event, the plugin or the account does.

    Args:
        name: the destination's.
        rendering: makes the requests.
        transport: carries requests.
        tally: takes what was seen.
        beside: takes the test account's answers; None where events are not sent.
        longest_pause: seconds; an account that asks for more gets no more.
    """

    def __init__(  # noqa: PLR0913 - what it takes to send, and to note what came of it
        self,
        name: str,
        rendering: Rendering,
        transport: Transport,
        tally: Tally,
        beside: Beside | None = None,
        *,
        longest_pause: float = HOUR,
    ) -> None:
        super().__init__(rendering, transport, longest_pause=longest_pause)
        self.buries = False
        self._output = rendering.output
        self._name = name
        self._tally = tally
        self._beside = beside
        self._again = 0.0

    async def send(self, jobs: Sequence[Job]) -> Outcome:
        """Look at the first of *jobs*; the outcome settles it as neither delivered nor refused."""
        job = jobs[0]
        request = self._look(job)
        if request is None or self._beside is None:
            await asyncio.sleep(0)  # the others' turn: a shadow does not wait for anything else
            return LOOKED
        how, why = await self._ask(request, self.rendering.redactor(job))
        now = time.time()
        self._tally.answer(self._name, job.event, how, now, why)
        if how in {"accepted", "refused"}:
            self._beside.answered(self._name, job.event.id, how, now)
        return LOOKED

    def company(self, job: Job) -> int:  # noqa: ARG002 - each event is looked at by itself
        """Return none: each event is looked at by itself."""
        return 0

    def _look(self, job: Job) -> Request | None:
        now, event = time.time(), job.event
        try:
            outgoing = job.outgoing
            request = self._output.render(outgoing)
            if isinstance(request, Declined):
                self._tally.event(self._name, event, "declined", now, request.reason)
                return None
            found = fates(self._output, outgoing)
        except Unrenderable as error:
            self._tally.event(self._name, event, "unrenderable", now, str(error))
            return None
        except Exception as error:
            log.exception("plugin_failed", vendor=self._output.name, step="shadow")
            why = f"render failed: {type(error).__name__}"
            self._tally.event(self._name, event, "unrenderable", now, why)
            return None
        self._tally.event(self._name, event, "goes", now)
        self._tally.fields(self._name, event, found, now, _removed(job, outgoing))
        return request

    async def _ask(self, request: Request, redactor: Redactor) -> tuple[str, str]:
        """Return how the test account took *request*, and why it did not."""
        if time.monotonic() < self._again:
            return "unasked", f"it was in trouble in the last {PAUSE:g} s"
        try:
            verdict = self._judge(await self._transport.send(request))
        except TransportError as error:
            verdict = RetryLater(str(error), cause=error.cause)
        if isinstance(verdict, Delivered):
            return "accepted", ""
        why = redactor.cut(verdict.reason)
        if isinstance(verdict, Refused):
            return "refused", why
        asked = min(verdict.after or 0.0, self._longest_pause)
        self._again = time.monotonic() + max(PAUSE, asked)
        return "unanswered", why


def _removed(job: Job, outgoing: Event) -> dict[str, str]:
    """Return the fields that the route's steps took away, each with the route's name."""
    if job.steps is None:
        return {}
    left = {path for path, _ in filled(outgoing)}
    return {
        path: job.steps.route
        for path, _ in filled(job.event)
        if path not in left and path not in SILENT
    }
