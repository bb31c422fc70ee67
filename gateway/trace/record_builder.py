"""Build trace records from what happened on the data path.

The event loop only takes snapshots; records are built in the recorder's thread.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from msgspec.structs import replace

from gateway.config.inputs import stored_input
from gateway.delivery.job import Job
from gateway.errors import Fault, Rejected
from gateway.event import Event
from gateway.event_diff import MISSING, diff_events
from gateway.http import NO_HEADERS, Request, with_added_headers
from gateway.ingest.arrival import RequestContext, is_sampled
from gateway.ingest.events import with_client
from gateway.losses.field_outcomes import with_reasons
from gateway.plugin.client_credentials import client_secrets
from gateway.plugin.vendor import Input, Output
from gateway.redact import HIDDEN, Redactor, is_secret
from gateway.routing.router import Router
from gateway.routing.steps import StepChain
from gateway.spool import Attempt, DeliveryRef, Entry, event_index
from gateway.trace.records import (
    LONGEST,
    AttemptRecord,
    ChangeKind,
    EventRecord,
    Outcome,
    RecordedChange,
    RecordedLoss,
    RecordedMessage,
    RequestRecord,
    RouteRecord,
    shortened,
)
from gateway.trace.store import Record
from gateway.tracking import TrackingPlan
from gateway.tracking.plan import LEFT_OUT
from gateway.tracking.schema import FieldPath, written

MOST = 50
"""Changed fields that are recorded, a field of all list items as one; of more, only the number."""

_INDEX = re.compile(r"\[\d+\]")


def changed(
    before: Event, after: Event, hide: Callable[[str], str]
) -> tuple[tuple[RecordedChange, ...], int]:
    """Return the fields that differ, and the number of those left out.

    Args:
        before: the event as accepted.
        after: the event as rendered.
        hide: redacts a text; names of fields may be the sender's own.
    """
    found: dict[RecordedChange, None] = {}
    try:
        differing = () if before is after else diff_events(before, after)
    except RecursionError:  # nested too deeply to compare; record the rest
        differing = ()
    for path, old, new in differing:
        kind: ChangeKind = "added" if old is MISSING else "removed" if new is MISSING else "changed"
        found[RecordedChange(_INDEX.sub("[]", path), kind)] = None
    named = tuple(RecordedChange(hide(one.path), one.kind) for one in list(found)[:MOST])
    return named, len(found) - len(named)


class AttemptSnapshot(NamedTuple):
    """An attempt, or the end of a delivery without one."""

    at: float
    """Unix seconds."""
    entry: Entry
    event: Event
    mark: DeliveryRef
    steps: StepChain | None
    sent: Request | None
    forwarded: bool
    number: int
    """The number of attempts, this one included; 0 if nothing was sent."""
    destination: str
    output: Output | None
    """None if the destination is no longer configured."""
    outcome: Outcome
    reason: str
    attempt: Attempt | None


def snapshot_attempt(
    job: Job, to: tuple[str, Output], outcome: Outcome, reason: str, attempt: Attempt | None
) -> AttemptSnapshot:
    """Return a snapshot of *job*, which changes with its next attempt."""
    return AttemptSnapshot(
        time.time() if attempt is None else attempt.at,
        job.entry,
        job.event,
        job.mark,
        job.steps,
        None if attempt is None else job.sent,
        job.forwarded,
        0 if attempt is None else max(1, len(job.attempts)),
        *to,
        outcome,
        reason,
        attempt,
    )


Hide = Callable[[str], str]
"""Redacts a text."""


class PlanNote(NamedTuple):
    """The tracking plan's result for one event; see `gateway.trace.records.EventRecord`."""

    said: tuple[str, ...] = ()
    left_out: tuple[FieldPath, ...] = ()


NOTHING = PlanNote()


def planned(arrival: RequestContext, hide: Hide) -> Iterator[PlanNote]:
    """Yield the tracking plan's result for each event of a request.

    Ingest passes on the events after the plan was applied, so events that may have lost fields are
    parsed again.
    """
    plan = arrival.source.plan
    if plan is None:
        yield from (NOTHING for _ in arrival.events)
        return
    for came, event in zip(_came(arrival, plan), arrival.events, strict=True):
        yield _judged(plan, came, event, hide)


def left_out(paths: Sequence[FieldPath], hide: Hide) -> PlanNote:
    """Return the result for an event of which only the removed *paths* are known."""
    return PlanNote(tuple(hide(written(path)) + LEFT_OUT for path in paths), _hidden(paths, hide))


def _came(arrival: RequestContext, plan: TrackingPlan) -> Sequence[Event]:
    stored = arrival.stored
    if plan.violations != "drop-field" or stored is None:
        return arrival.events
    return with_client(arrival.source.input.parse(stored), stored)


def _judged(plan: TrackingPlan, came: Event, event: Event, hide: Hide) -> PlanNote:
    found = plan.judge(came)
    if found is None:
        return NOTHING
    violations = dict(found.told())
    left = plan.judge(event) if found.dropped else None
    if left is not None:  # without the removed fields, the event may have other violations
        violations |= {what: False for what, _ in left.told() if what not in violations}
    said = tuple(hide(what) + (LEFT_OUT if gone else "") for what, gone in violations.items())
    return PlanNote(said, _hidden(found.dropped, hide))


def _hidden(paths: Sequence[FieldPath], hide: Hide) -> tuple[FieldPath, ...]:
    """Return *paths* redacted: a sender may use a credential as a field's name."""
    return tuple(
        tuple(hide(step) if isinstance(step, str) else step for step in path) for path in paths
    )


EXPLAINED = 20
"""Events of one request whose routes are recorded; later events have none."""
REMEMBERED = 256
"""Redactors that are cached, by the credentials that they hide in addition to the configured ones,
and by stored request."""
RECURRING = 200
"""Characters of a text up to which its redacted form is cached."""
_CREDENTIAL = re.compile(r"authorization|cookie|token|secret|password|api-?key", re.IGNORECASE)
"""Names of headers that contain credentials, of any vendor."""


class RecordSettings(NamedTuple):
    """What records are made with; a reload replaces it.

    Attributes:
        router: explains the decisions about an event.
        inputs: those that read stored requests (`gateway.config.inputs.stored_inputs`).
        redactor: hides every configured credential.
        keys: the key's name of each source that has only one key.
        headers: the headers that each destination adds, with credentials hidden.
        consents: stored consent is used, so routes cannot be explained later.
    """

    router: Router
    inputs: Mapping[str, Input]
    redactor: Redactor
    keys: Mapping[str, str]
    headers: Mapping[str, Mapping[str, str]] = {}
    consents: bool = False


class RecordBuilder:
    """Builds records.

    Args:
        setting: what they are made with.
        bodies: bytes to record of each body.
    """

    def __init__(self, setting: RecordSettings, bodies: int) -> None:
        self.setting = setting
        self._bodies = bodies
        self._redactors: dict[frozenset[str], Redactor] = {}
        self._of_entries: dict[str, Redactor] = {}
        self._for = setting

    def arrived(self, arrival: RequestContext) -> Iterator[Record]:
        """Yield the records of a received request."""
        request, refused, source = arrival.request, arrival.refused, arrival.source
        stored = arrival.stored or source.to_stored(request, b"")
        redactor = self._redactor(replace(request, body=stored.body), source.input)
        received = RequestRecord(
            request=request.id,
            at=request.received_at.timestamp(),
            source=source.name,
            vendor=source.input.name,
            message=self._message(stored, redactor, source.input, readable=_readable(refused)),
            events=len(arrival.events),
            credential=source.key_name(arrival.key),
            status=arrival.status,
            seconds=arrival.seconds,
            fault=refused.fault if refused else "",
            reason=shortened(redactor.text_short(str(refused))) if refused else "",
        )
        yield received
        if refused:
            return
        fresh = None if arrival.kept is None else {event.id for event in arrival.kept}
        notes = planned(arrival, _briefly(redactor))
        for index, (event, plan) in enumerate(zip(arrival.events, notes, strict=True)):
            if index in arrival.suppressed:
                continue
            duplicate = fresh is not None and event.id not in fresh
            consented = arrival.consented.get(index, {})
            explained = index < EXPLAINED and not duplicate
            decided = self._decided(source.name, event, consented) if explained else ()
            parsed = _parsed(event, received, redactor, decided, duplicate=duplicate)
            yield replace(parsed, violations=plan.said, dropped_fields=plan.left_out)

    def tried(self, trial: AttemptSnapshot, *, whole: bool = False) -> Iterator[Record]:
        """Yield the record of an attempt, after its request's records if these were not made.

        With *whole*, the request's records come in any case.
        """
        entry, event = trial.entry, trial.event
        redactor = self._redactor_of(entry)
        if whole or not is_sampled(entry.id):
            yield from self.stored(entry, {trial.mark.event: event})
        attempt, outgoing = trial.attempt, _outgoing(trial)
        hide = _briefly(redactor)
        changes, more = changed(event, outgoing or event, hide)
        yield AttemptRecord(
            event=_event_id(trial),
            request=entry.id,
            at=trial.at,
            source=entry.source,
            destination=trial.destination,
            vendor=trial.output.name if trial.output else "",
            name=hide(event.name or event.type),
            outcome=trial.outcome,
            reason=shortened(redactor.text_short(trial.reason)),
            route=entry.route(trial.destination, trial.mark.index),
            number=trial.number,
            status=attempt.status if attempt else None,
            seconds=attempt.latency if attempt else None,
            response_excerpt=redactor.text_short(attempt.response_excerpt) if attempt else "",
            sent=self._sent(trial, redactor),
            losses=_losses(trial, outgoing, hide),
            user_id=hide(event.user_id or ""),
            anonymous_id=hide(event.anonymous_id or ""),
            changes=changes,
            omitted_changes=more,
            copy=trial.mark.copy,
        )

    def stored(self, entry: Entry, events: Mapping[int, Event]) -> Iterator[Record]:
        """Yield the records of a stored request as if it had been sampled.

        Args:
            entry: the entry in the spool.
            events: the wanted events, by index.
        """
        reads = stored_input(self.setting.inputs, entry.vendor, entry.source)
        redactor = self._redactor_of(entry)
        numbers = (event_index(n) for ns in entry.targets.values() for n in ns)
        received = RequestRecord(
            request=entry.id,
            at=entry.request.received_at.timestamp(),
            source=entry.source,
            vendor=entry.vendor,
            message=self._message(entry.request, redactor, reads),
            events=1 + max((*numbers, *events), default=0),
            credential=self.setting.keys.get(entry.source, ""),
        )
        yield received
        for place, (index, event) in enumerate(events.items()):
            explained = place < EXPLAINED and not self.setting.consents
            decided = self._decided(entry.source, event, {}) if explained else ()
            plain = replace(event, id=f"{entry.id}-{index}")
            plan = left_out(entry.dropped.get(index, ()), _briefly(redactor))
            parsed = _parsed(plain, received, redactor, decided)
            yield replace(parsed, violations=plan.said, dropped_fields=plan.left_out)

    def _redactor_of(self, entry: Entry) -> Redactor:
        """Return the redactor of a stored request, whose attempts are recorded one by one."""
        self._forget_old()
        known = self._of_entries.get(entry.id)
        if known is None:
            if len(self._of_entries) >= REMEMBERED:
                self._of_entries.clear()
            reads = stored_input(self.setting.inputs, entry.vendor, entry.source)
            known = self._redactor(entry.request, reads)
            self._of_entries[entry.id] = known
        return known

    def _redactor(self, request: Request, reads: Input | None) -> Redactor:
        """Return a redactor for the configured credentials and for those in *request*."""
        self._forget_old()
        found = frozenset(client_secrets(request, reads)) if reads is not None else frozenset[str]()
        known = self._redactors.get(found)
        if known is None:
            if len(self._redactors) >= REMEMBERED:
                self._redactors.clear()
            known = self._redactors[found] = self.setting.redactor.with_secrets(found)
        return known

    def _forget_old(self) -> None:
        """Forget the redactors of an earlier setting."""
        if self._for is not self.setting:
            self._for = self.setting
            self._redactors.clear()
            self._of_entries.clear()

    def _message(
        self,
        request: Request,
        redactor: Redactor,
        vendor: Input | Output | None,
        *,
        readable: bool = True,
    ) -> RecordedMessage:
        secret = vendor.credential_headers if isinstance(vendor, Input) else frozenset[str]()
        most = self._bodies if readable else 0
        cut = request.body[: most + redactor.longest] if most else b""
        return RecordedMessage(
            method=request.method,
            url=shortened(redactor.text(request.url)),
            headers={
                name: HIDDEN
                if name in secret or _is_credential(name)
                else redactor.text(value)[:LONGEST]
                for name, value in request.headers.items()
            },
            body=redactor.text(cut.decode("utf-8", "replace"))[:most],
            size=len(request.body),
            truncated=len(request.body) > most,
        )

    def _sent(self, trial: AttemptSnapshot, redactor: Redactor) -> RecordedMessage | None:
        if trial.sent is None:
            return None
        added = self.setting.headers.get(trial.destination, NO_HEADERS)
        return self._message(with_added_headers(trial.sent, added), redactor, trial.output)

    def _decided(
        self, source: str, event: Event, consented: Mapping[str, bool]
    ) -> tuple[RouteRecord, ...]:
        found = self.setting.router.explain(source, event, consented)
        hide = _briefly(self.setting.redactor)
        return tuple(
            RouteRecord(*one._replace(reason=hide(one.reason), error=hide(one.error)))
            for one in found
        )


def _parsed(
    event: Event,
    received: RequestRecord,
    redactor: Redactor,
    decided: Sequence[RouteRecord],
    *,
    duplicate: bool = False,
) -> EventRecord:
    hide = _briefly(redactor)
    return EventRecord(
        event=event.id,
        request=received.request,
        at=received.at,
        source=received.source,
        type=event.type,
        name=hide(event.name or event.type),
        message_id=hide(event.message_id or ""),
        user_id=hide(event.user_id or ""),
        anonymous_id=hide(event.anonymous_id or ""),
        duplicate=duplicate,
        decisions=tuple(decided),
    )


@lru_cache(maxsize=1024)
def _is_credential(header: str) -> bool:
    return bool(_CREDENTIAL.search(header)) or is_secret(header)


@lru_cache(maxsize=REMEMBERED)
def _briefly(redactor: Redactor) -> Hide:
    """Return a function that redacts names and reasons; the short ones recur, and are cached."""

    def hide(text: str) -> str:
        return shortened(redactor.text(text))

    cached = lru_cache(maxsize=REMEMBERED)(hide)
    return lambda text: (cached if len(text) <= RECURRING else hide)(text)


def _readable(refused: Rejected | None) -> bool:
    """Return whether the body can be parsed, so that credentials in it can be found."""
    return refused is None or refused.fault is not Fault.MALFORMED


def _event_id(trial: AttemptSnapshot) -> str:
    """Return the id of the delivered event, without the suffix of a further delivery."""
    return f"{trial.entry.id}-{trial.mark.event}"


def _outgoing(trial: AttemptSnapshot) -> Event | None:
    """Return the event after the steps; None if a step fails, which is recorded as the reason."""
    if trial.steps is None:
        return trial.event
    try:
        return trial.steps.made(trial.event)
    except Exception:  # noqa: BLE001 - the step's failure was already recorded when rendering
        return None


def _losses(
    trial: AttemptSnapshot, event: Event | None, hide: Callable[[str], str]
) -> tuple[RecordedLoss, ...]:
    if event is None or trial.forwarded or not trial.sent or trial.output is None:
        return ()
    try:
        found = with_reasons(trial.output, event)
        return tuple(RecordedLoss(hide(loss.path), loss.how, hide(loss.why)) for loss in found)
    except Exception:  # noqa: BLE001 - the plugin's failure was already recorded when rendering
        return ()
