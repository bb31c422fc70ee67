"""The router: which destination gets which event, by which route."""

import asyncio
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

QUIET = 60.0
"""Seconds in which one route is logged once."""

log = structlog.get_logger()


class RuleErrors:
    """What failed, by route. It outlives the router, so that a reload does not begin anew.

    Attributes:
        counts: how often, by the route's name.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._lines = LogLimit(1, QUIET, clock)

    def note(self, route: str, error: str) -> None:
        """Count a failure of *route*, and log it if none was logged lately."""
        self.counts[route] += 1
        if self._lines.take(route):
            log.warning("condition_failed", route=route, error=error, times=self.counts[route])


RouteOutcome = tuple[str, Literal["given", "kept_back"]]
"""A route's name, and what it did with an event: gave it to a destination, or kept it back."""


class RoutedDelivery(NamedTuple):
    """One delivery of an event."""

    destination: str
    route: str
    """The route whose steps change it first; empty where none do."""
    way: int = 0
    """How many deliveries of the event the destination gets before this one."""


class EventRouting(NamedTuple):
    """What the routes do with one event."""

    leads: Sequence[RoutedDelivery] = ()
    """Its deliveries, in the order of the routes."""
    turns: Sequence[RouteOutcome] = ()
    """Which routes gave it to a destination, and which kept it back; none where it goes nowhere."""


class DeliveryPlan(NamedTuple):
    """What an entry of the spool says of deliveries; see `gateway.spool.Entry`."""

    targets: Mapping[str, Deliveries]
    routes: Mapping[str, Mapping[str, Deliveries]]
    turns: Sequence[Sequence[RouteOutcome]] = ()
    """Which routes did what, event by event."""


def planned(ways: Sequence[EventRouting]) -> DeliveryPlan:
    """Return the plan for the deliveries of each event of a request, in order."""
    targets: dict[str, list[int]] = {}
    routes: dict[str, dict[str, list[int]]] = {}
    for index, one in enumerate(ways):
        for to, route, way in one.leads:
            number = delivery_number(index, way)
            targets.setdefault(to, []).append(number)
            if route:
                routes.setdefault(to, {}).setdefault(route, []).append(number)
    changed: Routes = {
        to: {route: tuple(numbers) for route, numbers in mine.items()}
        for to, mine in routes.items()
    }
    sorted_ = {to: tuple(sorted(numbers)) for to, numbers in targets.items()}
    return DeliveryPlan(sorted_, changed, [one.turns for one in ways])


AT_ONCE = 100
"""Events of one request that are routed before others have a turn."""
REMEMBERED = 4096
"""How many combinations of source, type and name keep their answer; names are the senders' own,
so the number of combinations is not ours to bound."""
LONGEST_NAME = 256
"""Characters of a name up to which its answer is kept; a longer one is asked about each time."""
NOBODY: Mapping[int, Mapping[str, bool]] = {}

Consented = Mapping[str, bool]
"""What is remembered of a user's consent, by category."""


class RouteDecision(NamedTuple):
    """What one route says of one event."""

    route: str
    destinations: tuple[str, ...]
    """Where the route leads, whether or not it is taken."""
    taken: bool
    reason: str
    part: str = ""
    """The part of the condition that decided; empty where there is none, or it was not asked."""
    error: str = ""
    """Why the condition could not be judged."""
    kept_back: str = ""
    """Why a step of the route, which is taken, keeps the event back."""
    gives: tuple[str, ...] = ()
    """The destinations that get a delivery from this route."""


class _Route:
    """A route, ready to be asked."""

    def __init__(self, config: RouteConfig, slots: VariableSet) -> None:
        self.config = config
        self.condition = None if config.when is None else Condition(config.when, slots)
        self.steps = StepChain(config.name, config.steps) if config.steps else None
        self.to = tuple(dict.fromkeys(config.to))
        self.alone = not (config.additional or config.stop)
        """It neither adds a delivery to another's nor ends the asking."""

    def kept_back(self, event: Event, consented: Consented) -> tuple[str, str]:
        """Return why the route's steps keep *event* back, empty where it goes, and any failure."""
        if self.steps is None or not self.steps.filters:
            return "", ""
        try:
            return self.steps.filtered_by(event, consented), ""
        except Exception as error:  # noqa: BLE001 - a filter that fails must let nothing through
            failure = f"a step failed: {error!r}"
            return failure, failure


class _Gifts:
    """Who gets an event, as the routes are asked one after the other."""

    def __init__(self) -> None:
        self.leads: list[RoutedDelivery] = []
        self.turns: list[RouteOutcome] = []
        self.won: set[str] = set()
        self.taken = False
        self._ways: dict[str, int] = {}

    def give(self, route: _Route, *, kept_back: bool) -> tuple[str, ...]:
        """Let *route* deliver; a destination that another one has won stays that one's.

        What a filter keeps back counts as won: no later route may deliver it after all.
        """
        self.taken = True
        meant = [to for to in route.to if route.config.additional or to not in self.won]
        if meant:
            self.turns.append((route.config.name, "kept_back" if kept_back else "given"))
        if not route.config.additional:
            self.won.update(meant)
        if not kept_back:
            for to in meant:
                way = self._ways[to] = self._ways.get(to, -1) + 1
                steps = route.config.name if route.steps and route.steps.changes else ""
                self.leads.append(RoutedDelivery(to, steps, way))
        return () if kept_back else tuple(meant)

    def has_all(self, route: _Route) -> bool:
        """Tell whether asking *route* could change nothing any more."""
        return route.alone and self.won.issuperset(route.to)


class _Candidates:
    """The routes that may take events of one source, type and name.

    Beside each stands what is still to be asked of an event; None for nothing.
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
        routes: as configured; their conditions have been checked.
        failures: notes conditions and filters that fail.
    """

    def __init__(self, routes: Sequence[RouteConfig], failures: RuleErrors | None = None) -> None:
        self.failures = failures or RuleErrors()
        self._slots = VariableSet()
        self._routes = [_Route(route, self._slots) for route in routes]
        self._steps = {r.config.name: r.steps for r in self._routes if r.steps}
        conditions = [route.condition for route in self._routes if route.condition]
        self._all = self._slots.stage(frozenset[str]().union(*(one.names for one in conditions)))
        self.asks_consent = any(steps.asks_consent for steps in self._steps.values())
        """Some route lets events through by consent."""
        self._known: dict[tuple[str, str, str | None], _Candidates] = {}

    def steps(self, route: str) -> StepChain | None:
        """Return the steps of the route of that name; None where there is none with steps."""
        return self._steps.get(route)

    def plan(
        self,
        source: str,
        events: Sequence[Event],
        consented: Mapping[int, Consented] = NOBODY,
    ) -> DeliveryPlan:
        """Return where the *events* of one request go.

        Args:
            source: through which they came.
            events: in the order of the request.
            consented: what is remembered of their users, by the event's index.
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
        """Return what `plan` does, and let others have a turn now and then."""
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
        gifts = _Gifts()
        scene: ConditionInput | None = None
        for routes in (candidates.ordinary, candidates.fallback):
            for route, question in routes:
                if gifts.taken and gifts.has_all(route):
                    continue
                if question is not None:
                    scene = scene or candidates.stage.scene(source, event)
                    answer = question.ask(scene)
                    if answer is False or (answer is not True and not self._sent(route, answer)):
                        continue
                kept_back, failure = route.kept_back(event, consented)
                if failure:
                    self.failures.note(route.config.name, failure)
                gifts.give(route, kept_back=bool(kept_back))
                if route.config.stop:
                    break
            if gifts.taken:
                break
        return EventRouting(gifts.leads, gifts.turns)

    def _sent(self, route: _Route, error: str) -> bool:
        """Note that a condition failed; return whether its route is taken all the same."""
        self.failures.note(route.config.name, error)
        return route.config.on_error == "send"

    # For people

    def explain(
        self, source: str, event: Event, consented: Consented = NOTHING
    ) -> list[RouteDecision]:
        """Return what each route says of *event*, in order, each with its reason.

        Every condition is asked, also where nothing hangs on it any more. Nothing is counted.
        """
        gifts, stopped = _Gifts(), ""
        scene = self._all.scene(source, event)
        said: dict[int, RouteDecision] = {}
        for fallback in (False, True):
            any_ordinary = gifts.taken
            for number, route in enumerate(self._routes):
                if route.config.fallback != fallback:
                    continue
                found = _decision(route, source, event, scene)
                if found.taken and fallback and any_ordinary:
                    found = found._replace(taken=False, reason="another route takes it")
                elif found.taken and stopped:
                    found = found._replace(
                        taken=False, reason=f"{stopped} takes it and stops there"
                    )
                elif found.taken:
                    kept_back, _ = route.kept_back(event, consented)
                    gives = gifts.give(route, kept_back=bool(kept_back))
                    found = found._replace(kept_back=kept_back, gives=gives)
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
        how = "taken all the same" if taken else "not taken"
        return f"the condition could not be judged, so that it is {how}: {judgement.error}"
    if judgement.holds:
        return "the condition holds"
    if judgement.missing:
        return f"the condition does not hold: {condition.path(judgement.missing)} is missing"
    return "the condition does not hold"


def _fits(route: RouteConfig, source: str, event: Event) -> tuple[bool, str]:
    if route.sources is not None and source not in route.sources:
        return False, f"not from {', '.join(route.sources)}"
    if route.types is not None and event.type not in route.types:
        return False, f"{event.type} is none of the types {', '.join(route.types)}"
    if route.names is not None:
        name = event.name or ""
        glob = next((glob for glob in route.names if fnmatchcase(name, glob)), None)
        if glob is None:
            return False, f"{name!r} matches none of the names {', '.join(route.names)}"
        return True, f"{name!r} matches {glob!r}"
    return True, "every event of the source" if route.types is None else f"it is a {event.type}"
