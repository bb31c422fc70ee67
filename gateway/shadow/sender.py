"""The sender of a shadow destination, and its response beside the real one."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from gateway.delivery.job import AttemptResult, Job, Shadowed
from gateway.delivery.renderer import Renderer
from gateway.delivery.sender import HOUR, Sender
from gateway.delivery.transport import Transport
from gateway.errors import TransportError, Unrenderable
from gateway.event import Event
from gateway.http import Request
from gateway.losses.field_outcomes import field_outcomes
from gateway.mapping import NEVER_LOST, filled_fields
from gateway.redact import Redactor
from gateway.shadow.tally import ShadowTally
from gateway.verdict import Declined, Delivered, Refused, RetryLater, Verdict

REMEMBERED = 10_000
"""Events of which one side is known; of an older one nothing is compared any more."""


class _Sides(NamedTuple):
    """What is known of one event, by destination."""

    shadows: dict[str, str]
    others: dict[str, str]


class LiveComparison:
    """Brings both sides of an event together, in whichever order they come.

    Args:
        tally: takes the pairs.
    """

    def __init__(self, tally: ShadowTally) -> None:
        self.wanted = False
        """Some shadow has a test account."""
        self._tally = tally
        self._events: OrderedDict[str, _Sides] = OrderedDict()

    def answered(self, shadow: str, event_id: str, how: str, at: float) -> None:
        """Note how a shadow's test account took an event."""
        sides = self._sides(event_id)
        sides.shadows[shadow] = how
        for other, verdict in sides.others.items():
            self._tally.beside(shadow, other, f"{verdict}, {how}", at)

    def settled(
        self, destination: str, event_id: str, verdict: Verdict | Declined, at: float
    ) -> None:
        """Note how an event ended where it was really sent."""
        if isinstance(verdict, Declined):
            return
        said = "delivered" if isinstance(verdict, Delivered) else "refused"
        sides = self._sides(event_id)
        sides.others[destination] = said
        for shadow, how in sides.shadows.items():
            self._tally.beside(shadow, destination, f"{said}, {how}", at)

    def _sides(self, event_id: str) -> _Sides:
        sides = self._events.get(event_id)
        if sides is None:
            if len(self._events) >= REMEMBERED:
                self._events.popitem(last=False)
            sides = self._events[event_id] = _Sides({}, {})
        return sides


PAUSE = 30.0
"""Seconds in which a test account that was in trouble is not asked again."""
LOOKED = AttemptResult(Shadowed(), None)

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
        rendering: Renderer,
        transport: Transport,
        tally: ShadowTally,
        beside: LiveComparison | None = None,
        *,
        longest_pause: float = HOUR,
    ) -> None:
        super().__init__(rendering, transport, longest_pause=longest_pause)
        self.keeps_dead_letters = False
        self._output = rendering.output
        self._name = name
        self._tally = tally
        self._beside = beside
        self._again = 0.0

    async def send(self, jobs: Sequence[Job]) -> AttemptResult:
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

    def batch_room(self, job: Job) -> int:  # noqa: ARG002 - each event is looked at by itself
        """Return none: each event is looked at by itself."""
        return 0

    def _look(self, job: Job) -> Request | None:
        now, event = time.time(), job.event
        try:
            outgoing = job.outgoing_event
            request = self._output.render(outgoing)
            if isinstance(request, Declined):
                self._tally.event(self._name, event, "declined", now, request.reason)
                return None
            found = field_outcomes(self._output, outgoing)
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
        why = redactor.text_short(verdict.reason)
        if isinstance(verdict, Refused):
            return "refused", why
        asked = min(verdict.after or 0.0, self._longest_pause)
        self._again = time.monotonic() + max(PAUSE, asked)
        return "unanswered", why


def _removed(job: Job, outgoing: Event) -> dict[str, str]:
    """Return the fields that the route's steps took away, each with the route's name."""
    if job.steps is None:
        return {}
    left = {path for path, _ in filled_fields(outgoing)}
    return {
        path: job.steps.route
        for path, _ in filled_fields(job.event)
        if path not in left and path not in NEVER_LOST
    }
