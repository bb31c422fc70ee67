"""The router: decide which destinations get an event, by which route."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import structlog

from gateway.conditions.condition import Condition, Evaluation, Predicate, deciding_part
from gateway.conditions.variables import ConditionInput, VariableSet
from gateway.config import RouteConfig
from gateway.event import NOTHING, Event
from gateway.log_limit import LogLimit
from gateway.routing.steps import StepChain
from gateway.spool.values import Deliveries, Routes, delivery_number

_CONSENT = re.compile(r"\bconsent\b")

QUIET = 60.0
"""Seconds between two log lines about failures of one route."""

log = structlog.get_logger()


class RuleErrors:
    """Counts failed conditions and filters by route; a reload keeps the counts.

    Attributes:
        counts: number of failures by route.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._lines = LogLimit(1, QUIET, clock)

    def note(self, route: str, error: str) -> None:
        """Count a failure of *route*, and log it at a limited rate."""
        self.counts[route] += 1
        if self._lines.take(route):
            log.warning("condition_failed", route=route, error=error, times=self.counts[route])


RouteOutcome = tuple[str, Literal["routed", "filtered"]]
"""The name of a route, and whether it routed an event to a destination or filtered it."""


class RoutedDelivery(NamedTuple):
    """One delivery of an event."""

    destination: str
    route: str
    """The route whose steps apply; empty if it has none."""
    copy: int = 0
    """Number of earlier deliveries of the event to the same destination."""


class EventRouting(NamedTuple):
    """The result of all routes for one event."""

    leads: Sequence[RoutedDelivery] = ()
    """Its deliveries, in the order of the routes."""
    turns: Sequence[RouteOutcome] = ()
    """The routes that routed or filtered it; empty if no route took it."""


class DeliveryPlan(NamedTuple):
    """The deliveries of a request, as in `gateway.spool.Entry`."""

    targets: Mapping[str, Deliveries]
    routes: Mapping[str, Mapping[str, Deliveries]]
    turns: Sequence[Sequence[RouteOutcome]] = ()
    """The outcomes of the routes, by event."""


def planned(ways: Sequence[EventRouting]) -> DeliveryPlan:
    """Return the delivery plan of a request, from the routing of its events in order."""
    turns = [one.turns for one in ways]
    leads = ways[0].leads if ways else ()
    if all(one.leads == leads for one in ways) and not any(lead.copy for lead in leads):
        every = tuple(range(len(ways)))
        same: Routes = {lead.destination: {lead.route: every} for lead in leads if lead.route}
        return DeliveryPlan({lead.destination: every for lead in leads}, same, turns)
    targets: dict[str, list[int]] = {}
    routes: dict[str, dict[str, list[int]]] = {}
    for index, one in enumerate(ways):
        for to, route, copy in one.leads:
            number = delivery_number(index, copy)
            targets.setdefault(to, []).append(number)
            if route:
                routes.setdefault(to, {}).setdefault(route, []).append(number)
    changed: Routes = {
        to: {route: tuple(numbers) for route, numbers in mine.items()}
        for to, mine in routes.items()
    }
    sorted_ = {to: tuple(sorted(numbers)) for to, numbers in targets.items()}
    return DeliveryPlan(sorted_, changed, turns)


AT_ONCE = 100
"""Events of one request that are routed before other tasks of the loop may run."""
REMEMBERED = 4096
"""Most cached combinations of source, type and name; senders can invent any number of names."""
LONGEST_NAME = 256
"""Characters; combinations with a longer name are not cached."""
NOBODY: Mapping[int, Mapping[str, bool]] = {}

Consented = Mapping[str, bool]
"""A user's stored consent, by category."""


class RouteDecision(NamedTuple):
    """The decision of one route about one event, with the reason."""

    route: str
    destinations: tuple[str, ...]
    """The destinations of the route, whether or not it is taken."""
    taken: bool
    reason: str
    decided_by: str = ""
    """The part of the condition that decided; empty if no condition was evaluated."""
    error: str = ""
    """Why the condition failed; empty if it did not."""
    filtered: str = ""
    """Why a step of the taken route filters the event; empty if none does."""
    routed_to: tuple[str, ...] = ()
    """The destinations that get a delivery from this route."""


class _Route:
    """A route with its compiled condition and steps."""

    def __init__(self, config: RouteConfig, slots: VariableSet) -> None:
        self.config = config
        self.condition = None if config.when is None else Condition(config.when, slots)
        self.steps = StepChain(config.name, config.steps) if config.steps else None
        self.to = tuple(dict.fromkeys(config.to))
        self.alone = not (config.additional or config.stop)
        """Whether it neither adds deliveries to those of other routes nor stops the evaluation."""

    @property
    def asks_consent(self) -> bool:
        """Return whether a step asks for consent, or the condition mentions it."""
        by_step = self.steps is not None and self.steps.asks_consent
        return by_step or _CONSENT.search(self.config.when or "") is not None

    def filtered(self, event: Event, consented: Consented) -> tuple[str, str]:
        """Return why the steps filter *event* (empty if they do not), and the error of a step."""
        if self.steps is None or not self.steps.filters:
            return "", ""
        try:
            return self.steps.filtered_by(event, consented), ""
        except Exception as error:  # noqa: BLE001 - a filter that fails must let nothing through
            failure = f"a step failed: {error!r}"
            return failure, failure


class _DeliveryBuilder:
    """Collects the deliveries of an event while its routes are evaluated in order."""

    def __init__(self) -> None:
        self.leads: list[RoutedDelivery] = []
        self.turns: list[RouteOutcome] = []
        self.won: set[str] = set()
        self.taken = False
        self._copies: dict[str, int] = {}

    def give(self, route: _Route, *, filtered: bool) -> tuple[str, ...]:
        """Add the deliveries of *route*, except to destinations that an earlier route has won.

        A filtered delivery counts as won, so that no later route delivers the event after all.
        """
        self.taken = True
        meant = [to for to in route.to if route.config.additional or to not in self.won]
        if meant:
            self.turns.append((route.config.name, "filtered" if filtered else "routed"))
        if not route.config.additional:
            self.won.update(meant)
        if not filtered:
            for to in meant:
                copy = self._copies[to] = self._copies.get(to, -1) + 1
                steps = route.config.name if route.steps and route.steps.changes else ""
                self.leads.append(RoutedDelivery(to, steps, copy))
        return () if filtered else tuple(meant)

    def has_all(self, route: _Route) -> bool:
        """Return whether *route* cannot change the result any more."""
        return route.alone and self.won.issuperset(route.to)


class _Candidates:
    """The routes that may take events of one source, type and name.

    Each has the rest of its condition that depends on the single event; None if nothing is left.
    """

    def __init__(
        self, routes: Sequence[tuple[_Route, Predicate | None]], slots: VariableSet
    ) -> None:
        self.ordinary = [(one, question) for one, question in routes if not one.config.fallback]
        self.fallback = [(one, question) for one, question in routes if one.config.fallback]
        asked = [question.names for _, question in routes if question]
        self.stage = slots.stage(frozenset[str]().union(*asked))
        self.varies = bool(asked) or any(one.steps and one.steps.filters for one, _ in routes)
        self.still: EventRouting | None = None
        self.single: DeliveryPlan | None = None


class Router:
    """The routes of a configuration.

    Args:
        routes: as configured; their conditions are valid.
        failures: counts conditions and filters that fail.
    """

    def __init__(self, routes: Sequence[RouteConfig], failures: RuleErrors | None = None) -> None:
        self.failures = failures or RuleErrors()
        self._slots = VariableSet()
        self._routes = [_Route(route, self._slots) for route in routes]
        self._steps = {r.config.name: r.steps for r in self._routes if r.steps}
        conditions = [route.condition for route in self._routes if route.condition]
        self._all = self._slots.stage(frozenset[str]().union(*(one.names for one in conditions)))
        self.asks_consent = any(steps.asks_consent for steps in self._steps.values())
        """Whether any route has a consent step."""
        self.need_consent = frozenset(
            to for route in self._routes if route.asks_consent for to in route.to
        )
        """The destinations of routes that ask for consent, by a step or in their condition."""
        self._known: dict[tuple[str, str, str | None], _Candidates] = {}

    def steps(self, route: str) -> StepChain | None:
        """Return the steps of *route*; None if it does not exist or has no steps."""
        return self._steps.get(route)

    def plan(
        self,
        source: str,
        events: Sequence[Event],
        consented: Mapping[int, Consented] = NOBODY,
    ) -> DeliveryPlan:
        """Return the delivery plan for the *events* of one request.

        Args:
            source: their source.
            events: in the order of the request.
            consented: stored consent of their users, by event index.
        """
        if len(events) == 1:
            candidates = self._candidates(source, events[0])
            if candidates.single is not None:
                return candidates.single
        return planned(
            [
                self._way(source, event, consented.get(index, NOTHING))
                for index, event in enumerate(events)
            ]
        )

    async def plan_many(
        self,
        source: str,
        events: Sequence[Event],
        consented: Mapping[int, Consented] = NOBODY,
    ) -> DeliveryPlan:
        """Return the result of `plan`, and let other tasks of the loop run in between."""
        ways: list[EventRouting] = []
        for event in events:
            ways.append(self._way(source, event, consented.get(len(ways), NOTHING)))
            if len(ways) % AT_ONCE == 0:
                await asyncio.sleep(0)
        return planned(ways)

    def route(
        self, source: str, event: Event, consented: Consented = NOTHING
    ) -> tuple[RoutedDelivery, ...]:
        """Return the deliveries of *event*, in the order of the routes."""
        return tuple(self._way(source, event, consented).leads)

    def _way(self, source: str, event: Event, consented: Consented) -> EventRouting:
        candidates = self._candidates(source, event)
        if candidates.still is not None:
            return candidates.still
        return self._judged(candidates, source, event, consented)

    def _candidates(self, source: str, event: Event) -> _Candidates:
        key = (source, event.type, event.name)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = _Candidates(list(self._fitting(source, event)), self._slots)
            if len(event.name or "") <= LONGEST_NAME:
                self._known[key] = found
            if not found.varies:
                found.still = self._judged(found, source, event, NOTHING)
                found.single = planned([found.still])
        return found

    def _fitting(self, source: str, event: Event) -> Iterator[tuple[_Route, Predicate | None]]:
        for route in self._routes:
            if _fits(route.config, source, event)[0]:
                left = True if route.condition is None else route.condition.of_kind(source, event)
                if left:
                    yield route, None if left is True else left

    def _judged(
        self, candidates: _Candidates, source: str, event: Event, consented: Consented
    ) -> EventRouting:
        builder = _DeliveryBuilder()
        scene: ConditionInput | None = None
        for routes in (candidates.ordinary, candidates.fallback):
            for route, question in routes:
                if builder.taken and builder.has_all(route):
                    continue
                if question is not None:
                    scene = scene or candidates.stage.scene(source, event)
                    answer = question.ask(scene)
                    if answer is False or (answer is not True and not self._sent(route, answer)):
                        continue
                filtered, failure = route.filtered(event, consented)
                if failure:
                    self.failures.note(route.config.name, failure)
                builder.give(route, filtered=bool(filtered))
                if route.config.stop:
                    break
            if builder.taken:
                break
        return EventRouting(builder.leads, builder.turns)

    def _sent(self, route: _Route, error: str) -> bool:
        """Count a failed condition; return whether its route is taken nevertheless."""
        self.failures.note(route.config.name, error)
        return route.config.on_error == "send"

    # For people

    def explain(
        self, source: str, event: Event, consented: Consented = NOTHING
    ) -> list[RouteDecision]:
        """Return the decision of each route about *event*, in order, with reasons.

        All conditions are evaluated, even those that no longer matter. Failures are not counted.
        """
        builder, stopped = _DeliveryBuilder(), ""
        scene = self._all.scene(source, event)
        said: dict[int, RouteDecision] = {}
        for fallback in (False, True):
            any_ordinary = builder.taken
            for number, route in enumerate(self._routes):
                if route.config.fallback != fallback:
                    continue
                found = _decision(route, source, event, scene)
                if found.taken and fallback and any_ordinary:
                    found = found._replace(taken=False, reason="another route takes the event")
                elif found.taken and stopped:
                    reason = f"route {stopped} takes the event and stops (stop = true)"
                    found = found._replace(taken=False, reason=reason)
                elif found.taken:
                    filtered, _ = route.filtered(event, consented)
                    routed_to = builder.give(route, filtered=bool(filtered))
                    found = found._replace(filtered=filtered, routed_to=routed_to)
                    stopped = route.config.name if route.config.stop else ""
                said[number] = found
        return [said[number] for number in range(len(self._routes))]


def _decision(route: _Route, source: str, event: Event, scene: ConditionInput) -> RouteDecision:
    config = route.config
    fits, reason = _fits(config, source, event)
    if not fits or route.condition is None:
        return RouteDecision(config.name, config.to, fits, reason)
    judgement = route.condition.judge(scene)
    taken = config.on_error == "send" if judgement.error else judgement.holds
    said = _reason(route.condition, judgement, taken=taken)
    part = deciding_part(route.condition, scene)
    return RouteDecision(config.name, config.to, taken, said, part, judgement.error)


def _reason(condition: Condition, judgement: Evaluation, *, taken: bool) -> str:
    if judgement.error:
        how = 'taken (on_error = "send")' if taken else "not taken"
        return f"the condition failed, so the route is {how}: {judgement.error}"
    if judgement.holds:
        return "the condition holds"
    if judgement.missing:
        return f"the condition does not hold: {condition.path(judgement.missing)} is missing"
    return "the condition does not hold"


def _fits(route: RouteConfig, source: str, event: Event) -> tuple[bool, str]:
    if route.sources is not None and source not in route.sources:
        return False, f"not from {', '.join(route.sources)}"
    if route.types is not None and event.type not in route.types:
        return False, f"type {event.type} is not one of {', '.join(route.types)}"
    if route.names is not None:
        name = event.name or ""
        glob = next((glob for glob in route.names if fnmatchcase(name, glob)), None)
        if glob is None:
            return False, f"{name!r} matches none of the names {', '.join(route.names)}"
        return True, f"{name!r} matches {glob!r}"
    return True, "all events" if route.types is None else f"type {event.type} matches"
