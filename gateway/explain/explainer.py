"""Explain a request: route its events and render the requests that would be sent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from gateway.config import Config
from gateway.config.models import redactor_of
from gateway.delivery.job import Job, build_job
from gateway.delivery.renderer import Renderer, RenderFailure, make_renderer
from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.explain.dry_run import DryRunIngest, DryRunRequest
from gateway.explain.models import (
    DeliveryExplanation,
    EventExplanation,
    ExplainRequest,
    Explanation,
    OutgoingRequest,
    RouteExplanation,
)
from gateway.http import Request
from gateway.ingest.suppression import targets_without
from gateway.losses.field_outcomes import derived, with_reasons
from gateway.plugin.registry import PluginRegistry
from gateway.routing.router import Consented, RouteDecision, Router
from gateway.routing.steps import StepChain, StepResult
from gateway.spool import DeliveryRef, Entry
from gateway.spool.values import delivery_number

Stories = Mapping[tuple[str, int], DeliveryExplanation]
"""Explained deliveries, by destination and by number among the request's deliveries."""


class Explainer:
    """Explains what a configuration does with requests.

    Each request is explained alone: no event is a duplicate, no delivery waits, and events are not
    batched into one outgoing request.
    """

    def __init__(self, config: Config, registry: PluginRegistry) -> None:
        self._ingest = DryRunIngest(config, registry)
        self._router = Router(config.routes)
        self._remembers = config.consent.retention is not None
        self._shadows = {name for name, to in config.destinations.items() if to.shadow}
        self._at = 0.0
        self.redactor = redactor_of(config)
        """Hides the configured credentials wherever a sender may have written them."""
        self._exits = {
            name: make_renderer(destination, registry, lambda: self.redactor, lambda: self._at)
            for name, destination in config.destinations.items()
        }

    def explain(self, asked: ExplainRequest) -> Explanation:
        """Explain a request.

        Raises:
            ExplainRequestError: it is ambiguous which source or endpoint is meant, or there is
                none.
        """
        self._at = asked.at.timestamp()
        entered = self._ingest.enter(asked)
        request, source, vendor = entered.request, entered.source, entered.vendor
        if entered.refusal is not None:
            return Explanation(request, source, vendor, refusal=entered.refusal)
        events = entered.kept.events
        consented = self._consented(events, asked.consented)
        stories = self._deliveries(entered, consented)
        explained = tuple(
            EventExplanation(
                event,
                entered.events[index],
                entered.planned[index] if entered.planned else None,
                ()
                if index in entered.suppressed
                else tuple(self._routes(source, event, index, consented[index], stories)),
                index in entered.suppressed,
            )
            for index, event in enumerate(events)
        )
        return Explanation(request, source, vendor, answer=entered.answer, events=explained)

    def _consented(
        self, events: Sequence[Event], before: Mapping[str, bool]
    ) -> dict[int, Consented]:
        """Return the stored consent of each event's user, after this request was stored."""
        if not self._remembers:
            return {index: {} for index in range(len(events))}
        stored = []
        for event in events:
            consent = dict(before)
            for other in events:
                if _same_user(event, other):
                    consent.update(other.consent)
            stored.append(consent)
        return dict(enumerate(stored))

    def _deliveries(self, entered: DryRunRequest, consented: Mapping[int, Consented]) -> Stories:
        kept = entered.kept
        plan = self._router.plan(entered.source, kept.events, consented)
        targets = targets_without(plan.targets, entered.suppressed)
        entry = Entry(
            entered.request.id,
            entered.source,
            entered.request,
            targets,
            entered.vendor,
            plan.routes,
            kept.dropped,
        )
        found: dict[tuple[str, int], DeliveryExplanation] = {}
        for to, numbers in targets.items():
            jobs = [
                build_job(DeliveryRef(0, number), entry, to, kept.events, self._router.steps)
                for number in numbers
            ]
            shadow = to in self._shadows
            for job, story in zip(jobs, _stories(to, self._exits[to], jobs), strict=True):
                found[to, job.mark.index] = replace(story, shadow=shadow)
        return found

    def _routes(
        self, source: str, event: Event, index: int, consented: Consented, stories: Stories
    ) -> Iterator[RouteExplanation]:
        ways: dict[str, int] = {}
        for decision in self._router.explain(source, event, consented):
            mine = []
            for to in decision.routed_to:
                mine.append(stories[to, delivery_number(index, ways.get(to, 0))])
                ways[to] = ways.get(to, 0) + 1
            yield RouteExplanation(decision, self._steps(decision, event, consented), tuple(mine))

    def _steps(
        self, decision: RouteDecision, event: Event, consented: Consented
    ) -> tuple[StepResult, ...]:
        steps = self._router.steps(decision.route)
        goes = decision.taken and (decision.routed_to or decision.filtered)
        return tuple(_taken(steps, event, consented)) if steps is not None and goes else ()


def _same_user(one: Event, other: Event) -> bool:
    pairs = ((one.user_id, other.user_id), (one.anonymous_id, other.anonymous_id))
    return one is other or any(mine and mine == theirs for mine, theirs in pairs)


def _taken(steps: StepChain, event: Event, consented: Consented) -> Iterator[StepResult]:
    """Yield the steps until one filters the event or fails; the delivery has the reason."""
    results = steps.each(event, consented)
    while True:
        try:
            yield next(results)
        except StopIteration:
            return
        except Exception:  # noqa: BLE001 - the delivery's explanation has the failure
            return


def _stories(to: str, exit_: Renderer, jobs: Sequence[Job]) -> Iterator[DeliveryExplanation]:
    """Yield the explained *jobs* of one destination: forwarded together, or each by itself."""
    rest = list(jobs)
    whole = exit_.prepare(rest)
    if not isinstance(whole, RenderFailure) and whole.forwarded:
        sent = _sent(whole.request, exit_, rest[0], forwarded=True)
        for job in rest[: whole.covers]:
            yield DeliveryExplanation(to, exit_.output.name, job.event, sent)
        rest = rest[whole.covers :]
    for job in rest:
        yield _story(to, exit_, job)


def _story(to: str, exit_: Renderer, job: Job) -> DeliveryExplanation:
    vendor = exit_.output.name
    try:
        event = job.outgoing_event
    except Unrenderable as error:
        return DeliveryExplanation(to, vendor, job.event, reason=str(error), dead=True)
    prepared = exit_.prepare([job])
    if isinstance(prepared, RenderFailure):
        reason = exit_.redactor(job).text(prepared.reason)
        return DeliveryExplanation(
            to, vendor, event, reason=reason, dead=prepared.cause is not None
        )
    sent = _sent(prepared.request, exit_, job, forwarded=prepared.forwarded)
    losses = () if prepared.forwarded else tuple(with_reasons(exit_.output, event))
    follows = {} if prepared.forwarded else derived(exit_.output, event)
    return DeliveryExplanation(to, vendor, event, sent, losses=losses, derived=follows)


def _sent(request: Request, exit_: Renderer, job: Job, *, forwarded: bool) -> OutgoingRequest:
    also = tuple(_sent(further, exit_, job, forwarded=False) for further in request.also)
    return OutgoingRequest(**exit_.shown(request, job), forwarded=forwarded, also=also)
