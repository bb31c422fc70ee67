"""Send the events of a shadow to its test account, if any, and compare the responses."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import structlog

from gateway.delivery.job import AttemptResult, Job, Shadowed
from gateway.delivery.renderer import Renderer
from gateway.delivery.sender import HOUR, OnResult, Sender
from gateway.delivery.transport import Transport
from gateway.errors import TransportError, Unrenderable
from gateway.event import Event
from gateway.http import Request, Response
from gateway.losses.field_outcomes import field_outcomes
from gateway.mapping import NEVER_LOST, filled_fields
from gateway.redact import Redactor
from gateway.shadow.tally import ShadowTally
from gateway.verdict import Declined, Delivered, Refused, RetryLater, Verdict

REMEMBERED = 10_000
"""Events of which one outcome is known; older ones are not compared."""


class _Sides(NamedTuple):
    """The outcomes of one event, by destination."""

    shadows: dict[str, str]
    others: dict[str, str]


class LiveComparison:
    """Pairs the outcomes of an event at a shadow and at real destinations, in any order.

    Args:
        tally: counts the pairs.
    """

    def __init__(self, tally: ShadowTally) -> None:
        self.wanted = False
        """At least one shadow has a test account."""
        self._tally = tally
        self._events: OrderedDict[str, _Sides] = OrderedDict()

    def answered(self, shadow: str, event_id: str, how: str, at: float) -> None:
        """Record the response of a shadow's test account."""
        sides = self._sides(event_id)
        sides.shadows[shadow] = how
        for other, verdict in sides.others.items():
            self._tally.pair(shadow, other, f"{verdict}, {how}", at)

    def settled(
        self, destination: str, event_id: str, verdict: Verdict | Declined, at: float
    ) -> None:
        """Record the outcome of an event at a real destination."""
        if isinstance(verdict, Declined):
            return
        outcome = "delivered" if isinstance(verdict, Delivered) else "refused"
        sides = self._sides(event_id)
        sides.others[destination] = outcome
        for shadow, how in sides.shadows.items():
            self._tally.pair(shadow, destination, f"{outcome}, {how}", at)

    def _sides(self, event_id: str) -> _Sides:
        sides = self._events.get(event_id)
        if sides is None:
            if len(self._events) >= REMEMBERED:
                self._events.popitem(last=False)
            sides = self._events[event_id] = _Sides({}, {})
        return sides


PAUSE = 30.0
"""Seconds without requests after a test account failed."""
LOOKED = AttemptResult(Shadowed(), None)

log = structlog.get_logger()


class ShadowSender(Sender):
    """Renders events, counts their losses, and sends them to the test account if there is one.

    Nothing is retried, so a shadow is never behind for long. No event, plugin or account makes it
    fail.

    Args:
        name: the name of the destination.
        rendering: makes the requests.
        transport: sends them.
        tally: counts the results.
        comparison: gets the test account's responses; None if events are not sent.
        longest_pause: the longest pause in seconds that the account can request.
    """

    def __init__(  # noqa: PLR0913 - one parameter per collaborator
        self,
        name: str,
        rendering: Renderer,
        transport: Transport,
        tally: ShadowTally,
        comparison: LiveComparison | None = None,
        *,
        longest_pause: float = HOUR,
    ) -> None:
        super().__init__(rendering, transport, longest_pause=longest_pause)
        self.keeps_dead_letters = False
        self._output = rendering.output
        self._name = name
        self._tally = tally
        self._comparison = comparison
        self._again = 0.0

    def send(self, jobs: Sequence[Job], on_result: OnResult) -> None:
        """Examine the first of *jobs*; its outcome, which comes later, is always "shadowed"."""
        job = jobs[0]
        request = self._look(job)
        if request is None or self._comparison is None:
            # not at once: nothing else in here waits, so other work would starve
            asyncio.get_running_loop().call_soon(on_result, LOOKED)
        elif time.monotonic() < self._again:
            self._answered(job, "unasked", f"it failed in the last {PAUSE:g} s")
            asyncio.get_running_loop().call_soon(on_result, LOOKED)
        else:
            self._transport.post(request, partial(self._on_answer, job, on_result))

    def batch_room(self, job: Job) -> int:  # noqa: ARG002 - each event is looked at by itself
        """Return 0: each event is examined alone."""
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

    def _on_answer(self, job: Job, on_result: OnResult, end: Response | TransportError) -> None:
        try:
            self._answered(job, *self._told(end, self.rendering.redactor(job)))
        except Exception:  # a shadow never fails
            log.exception("delivery_failed", destination=self._name, delivery=job.event.id)
        on_result(LOOKED)

    def _answered(self, job: Job, how: str, why: str) -> None:
        now = time.time()
        self._tally.answer(self._name, job.event, how, now, why)
        if self._comparison is not None and how in {"accepted", "refused"}:
            self._comparison.answered(self._name, job.event.id, how, now)

    def _told(self, end: Response | TransportError, redactor: Redactor) -> tuple[str, str]:
        """Return the outcome of a request to the test account, and its reason."""
        if isinstance(end, TransportError):
            verdict: Verdict = RetryLater(str(end), cause=end.cause)
        else:
            verdict = self._judge(end)
        if isinstance(verdict, Delivered):
            return "accepted", ""
        why = redactor.text_short(verdict.reason)
        if isinstance(verdict, Refused):
            return "refused", why
        asked = min(verdict.after or 0.0, self._longest_pause)
        self._again = time.monotonic() + max(PAUSE, asked)
        return "unanswered", why


def _removed(job: Job, outgoing: Event) -> dict[str, str]:
    """Return the fields that the route's steps removed, each with the route's name."""
    if job.steps is None:
        return {}
    left = {path for path, _ in filled_fields(outgoing)}
    return {
        path: job.steps.route
        for path, _ in filled_fields(job.event)
        if path not in left and path not in NEVER_LOST
    }
