"""From what the data path handed over to records without credentials, off the loop."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from gateway.credentials import secrets_in
from gateway.errors import Fault, Rejected
from gateway.event import Event
from gateway.exchange import Request
from gateway.losses.fates import with_reasons
from gateway.plugin import Input, Output
from gateway.redact import Redactor
from gateway.routing.router import Router
from gateway.secret_names import HIDDEN, is_secret
from gateway.spool import Entry, event_of
from gateway.trace.changing import changed
from gateway.trace.interface import Decided, Loss, Message, Parsed, Received, Tried
from gateway.trace.planning import left_out, planned
from gateway.trace.raw import Arrival, Trial
from gateway.trace.sampling import chosen
from gateway.trace.store import Record

EXPLAINED = 20
"""Events of one request whose routes are explained; of a longer one the first."""
LONGEST = 1000
"""Characters of a reason, an address, a name or an id; all of these can be a sender's own."""
REMEMBERED = 256
"""Redactors that are kept, by the credentials that they hide besides the configured ones."""
_CREDENTIAL = re.compile(r"authorization|cookie|token|secret|password|api-?key", re.IGNORECASE)
"""Names of headers that hold credentials, whosever they are."""


class Setting(NamedTuple):
    """What records are made with; a reload changes it.

    Attributes:
        router: says why an event goes where it goes.
        inputs: the vendors', by name.
        redactor: hides every configured credential.
        keys: the names of the credentials of sources that have only one, by source.
        consents: remembered consent has a say, so that routes cannot be explained later.
    """

    router: Router
    inputs: Mapping[str, Input]
    redactor: Redactor
    keys: Mapping[str, str]
    consents: bool = False


class Maker:
    """Makes records.

    Args:
        setting: what they are made with.
        bodies: bytes that are kept of each body.
    """

    def __init__(self, setting: Setting, bodies: int) -> None:
        self.setting = setting
        self._bodies = bodies
        self._redactors: dict[frozenset[str], Redactor] = {}
        self._for = setting

    def arrived(self, arrival: Arrival) -> Iterator[Record]:
        """Yield the records of a request that came."""
        request, refused, source = arrival.request, arrival.refused, arrival.source
        stored = arrival.stored or source.stored(request, b"")
        redactor = self._redactor(replace(request, body=stored.body), source.reads)
        received = Received(
            request=request.id,
            at=request.received_at.timestamp(),
            source=source.name,
            vendor=source.reads.name,
            message=self._message(stored, redactor, source.reads, readable=_readable(refused)),
            events=len(arrival.events),
            credential=source.key_name(arrival.key),
            status=arrival.status,
            seconds=arrival.seconds,
            fault=refused.fault if refused else "",
            reason=_short(redactor.cut(str(refused))) if refused else "",
        )
        yield received
        if refused:
            return
        fresh = None if arrival.kept is None else {event.id for event in arrival.kept}
        told = planned(arrival, _briefly(redactor))
        for index, (event, plan) in enumerate(zip(arrival.events, told, strict=True)):
            repeated = fresh is not None and event.id not in fresh
            consented = arrival.consented.get(index, {})
            explained = index < EXPLAINED and not repeated
            decided = self._decided(source.name, event, consented) if explained else ()
            parsed = _parsed(event, received, redactor, decided, repeated=repeated)
            yield replace(parsed, planned=plan.said, left_out=plan.left_out)

    def tried(self, trial: Trial, *, whole: bool = False) -> Iterator[Record]:
        """Yield the record of a try; before it, what its request's would be, if none was made.

        Or, for the *whole*, in any case.
        """
        entry, event = trial.entry, trial.event
        request = entry.request
        reads = self.setting.inputs.get(entry.vendor)
        redactor = self._redactor(request, reads)
        if whole or not chosen(entry.id):
            yield from self.stored(entry, {trial.mark.event: event})
        attempt, outgoing = trial.attempt, _outgoing(trial)
        hide = _briefly(redactor)
        changes, more = changed(event, outgoing or event, hide)
        yield Tried(
            event=_event_id(trial),
            request=entry.id,
            at=trial.at,
            source=entry.source,
            destination=trial.destination,
            vendor=trial.output.name if trial.output else "",
            name=hide(event.name or event.type),
            outcome=trial.outcome,
            reason=_short(redactor.cut(trial.reason)),
            route=entry.route(trial.destination, trial.mark.index),
            number=trial.number,
            status=attempt.status if attempt else None,
            seconds=attempt.latency if attempt else None,
            said=redactor.cut(attempt.said) if attempt else "",
            sent=self._message(trial.sent, redactor, trial.output) if trial.sent else None,
            losses=_losses(trial, outgoing, hide),
            user_id=hide(event.user_id or ""),
            anonymous_id=hide(event.anonymous_id or ""),
            changes=changes,
            more_changes=more,
            way=trial.mark.way,
        )

    def stored(self, entry: Entry, events: Mapping[int, Event]) -> Iterator[Record]:
        """Yield what there would be of a stored request, had it been chosen.

        Args:
            entry: as the spool has it.
            events: those of it that are wanted, by index.
        """
        reads = self.setting.inputs.get(entry.vendor)
        redactor = self._redactor(entry.request, reads)
        numbers = (event_of(n) for ns in entry.targets.values() for n in ns)
        received = Received(
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
            yield replace(parsed, planned=plan.said, left_out=plan.left_out)

    def _redactor(self, request: Request, reads: Input | None) -> Redactor:
        """Return what hides the configured credentials and those that *request* came with."""
        if self._for is not self.setting:
            self._for = self.setting
            self._redactors.clear()
        base = self.setting.redactor
        found = frozenset(secrets_in(request, reads)) if reads is not None else frozenset[str]()
        known = self._redactors.get(found)
        if known is None:
            if len(self._redactors) >= REMEMBERED:
                self._redactors.clear()
            known = self._redactors[found] = base.also(found)
        return known

    def _message(
        self,
        request: Request,
        redactor: Redactor,
        vendor: Input | Output | None,
        *,
        readable: bool = True,
    ) -> Message:
        secret = vendor.credential_headers if isinstance(vendor, Input) else frozenset[str]()
        most = self._bodies if readable else 0
        cut = request.body[: most + redactor.longest] if most else b""
        return Message(
            method=request.method,
            url=_short(redactor.text(request.url)),
            headers={
                name: HIDDEN
                if name in secret or _CREDENTIAL.search(name) or is_secret(name)
                else redactor.text(value)[:LONGEST]
                for name, value in request.headers.items()
            },
            body=redactor.text(cut.decode("utf-8", "replace"))[:most],
            size=len(request.body),
            cut=len(request.body) > most,
        )

    def _decided(
        self, source: str, event: Event, consented: Mapping[str, bool]
    ) -> tuple[Decided, ...]:
        found = self.setting.router.explain(source, event, consented)
        hide = _briefly(self.setting.redactor)
        return tuple(
            Decided(*one._replace(reason=hide(one.reason), error=hide(one.error))) for one in found
        )


def _parsed(
    event: Event,
    received: Received,
    redactor: Redactor,
    decided: Sequence[Decided],
    *,
    repeated: bool = False,
) -> Parsed:
    hide = _briefly(redactor)
    return Parsed(
        event=event.id,
        request=received.request,
        at=received.at,
        source=received.source,
        type=event.type,
        name=hide(event.name or event.type),
        message_id=hide(event.message_id or ""),
        user_id=hide(event.user_id or ""),
        anonymous_id=hide(event.anonymous_id or ""),
        repeated=repeated,
        decisions=tuple(decided),
    )


def _briefly(redactor: Redactor) -> Callable[[str], str]:
    return lambda text: _short(redactor.text(text))


def _readable(refused: Rejected | None) -> bool:
    """Tell whether what is a credential in a body can be told from what is not."""
    return refused is None or refused.fault is not Fault.MALFORMED


def _event_id(trial: Trial) -> str:
    """Return the id of the event that is delivered; a further delivery of it has one of its own."""
    return f"{trial.entry.id}-{trial.mark.event}"


def _outgoing(trial: Trial) -> Event | None:
    """Return the event as the steps leave it; None where one fails, which is told as the reason."""
    if trial.steps is None:
        return trial.event
    try:
        return trial.steps.made(trial.event)
    except Exception:  # noqa: BLE001 - a step's mistake has been met, and told, when rendering
        return None


def _losses(trial: Trial, event: Event | None, hide: Callable[[str], str]) -> tuple[Loss, ...]:
    if event is None or trial.forwarded or not trial.sent or trial.output is None:
        return ()
    try:
        found = with_reasons(trial.output, event)
        return tuple(Loss(hide(loss.path), loss.how, hide(loss.why)) for loss in found)
    except Exception:  # noqa: BLE001 - a plugin's mistake has been met, and told, when rendering
        return ()


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
