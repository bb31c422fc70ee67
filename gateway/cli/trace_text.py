"""Print traces as lines of text."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence

from rich.text import Text

from gateway.cli.output import strip_control_characters
from gateway.ingest.arrival import is_sampled
from gateway.observability.redacted_request import indented
from gateway.spool.dead_letters import DeadLetterSummary, format_time
from gateway.trace.delivery_status import DeliveryStatus, SpoolRecords, delivery_statuses
from gateway.trace.records import (
    AttemptRecord,
    EventRecord,
    RecordedMessage,
    RequestRecord,
    RouteRecord,
    Trace,
    TraceLine,
)

Latest = Callable[[str], TraceLine | None]
STYLES = {"delivered": "green", "accepted": "", "declined": "yellow", "duplicate": "yellow"}


def trace_lines(
    trace: Trace,
    *,
    whole: bool,
    latest: Latest = lambda _: None,
    held: SpoolRecords | None = None,
) -> Iterator[str]:
    """Yield the lines about one request: what was received, then each event and its deliveries.

    Args:
        trace: the trace of the request.
        whole: include the received and the sent requests.
        latest: returns the newest line about a destination, or None.
        held: the spool's records of the request; None if the spool cannot be read.
    """
    yield f"request {trace.request}"
    if trace.received is None:
        yield "  the received request was not traced, or its trace has expired"
    else:
        yield from _received(trace.received, whole=whole)
    known = {event.event for event in trace.events}
    for event in trace.events:
        yield ""
        yield from _trace_event(event)
        for status in delivery_statuses(trace, event, held):
            yield from _attempts(status.attempts, whole=whole)
            yield from _status(status, latest, trace.request, asked=held is not None)
    yield from _other_events(trace, known, whole=whole)
    for letter in held.dead_letters if held else ():
        if letter.event not in known:
            yield ""
            yield f"event {letter.event}  {letter.event_name}".rstrip()
            yield dead_letter_line(letter)


def _status(status: DeliveryStatus, latest: Latest, request: str, *, asked: bool) -> Iterator[str]:
    """Yield the status of a delivery, unless its attempts show it already."""
    letter, attempts = status.dead_letter, status.attempts
    if letter is not None:
        shown = bool(attempts) and attempts[-1].reason == f"{letter.cause}: {letter.reason}"
        yield f"    it is dead letter {letter.id}" if shown else dead_letter_line(letter)
        return
    to, traced = status.destination, is_sampled(request)
    words = status.words(traced=traced, now=time.time(), asked=asked)
    if attempts and words:
        yield f"    {words}"
    elif status.pending or (traced and not asked):
        yield f"  {to}: no attempt yet; {_waiting(status, latest(to), words)}"
    elif words:
        yield f"  {to}: {words}"


def _waiting(status: DeliveryStatus, latest: TraceLine | None, words: str) -> str:
    """Return why a delivery had no attempt yet, by the *latest* line about its destination."""
    behind = status.state is not None and status.state.parked
    if latest is None or latest.outcome != "retry" or behind:
        return words
    at = format_time(latest.at)
    return f"the destination fails: {latest.reason} ({at} UTC)"


def dead_letter_line(letter: DeadLetterSummary) -> str:
    """Return the line about a dead letter: when it was given up, its id, cause and reason."""
    at, number = format_time(letter.at), letter.id
    why = f"{letter.cause}: {letter.reason}"
    return f"  {letter.destination}: given up {at} as dead letter {number}; {why}"


def _received(received: RequestRecord, *, whole: bool) -> Iterator[str]:
    message = received.message
    came = f"{message.method} {message.url}, {message.size} bytes, {_count(received.events)}"
    key = f", with {received.credential}" if received.credential not in {"", "any"} else ""
    at = format_time(received.at)
    node = f" at {received.node}" if received.node else ""
    yield f"  received  {at} UTC by source {received.source} (format: {received.vendor}){key}{node}"
    yield f"            {came}"
    response = "accepted" if received.status is None else f"HTTP {received.status}"
    seconds = "" if received.seconds is None else f" in {received.seconds:.3f} s"
    yield f"  response  {response}{seconds}"
    if received.fault:
        yield f"  rejected  {received.fault}: {received.reason}"
    if whole:
        yield from _message(message, 4)


def _trace_event(event: EventRecord) -> Iterator[str]:
    name = event.name if event.name == event.type else f"{event.type} {event.name!r}"
    yield f"event {event.event}  {name}"
    ids = {"user": event.user_id, "anonymous": event.anonymous_id, "message": event.message_id}
    if any(ids.values()):
        yield "  " + ", ".join(f"{what} {one}" for what, one in ids.items() if one)
    if event.duplicate:
        yield "  duplicate; not delivered again"
    for violation in event.violations:
        yield f"  violates the tracking plan: {violation}"
    for decision in event.decisions:
        yield from _decision(decision)


def _decision(decision: RouteRecord) -> Iterator[str]:
    to = ", ".join(decision.routed_to) or "no further destination"
    how = f"to {to}" if decision.taken and not decision.filtered else "not taken"
    if decision.filtered:
        how = "filtered"
    yield f"  route     {decision.route}: {how}; {decision.filtered or decision.reason}"
    if decision.decided_by and not decision.filtered:
        yield f"            decided by: {decision.decided_by}"


def _other_events(trace: Trace, known: Collection[str], *, whole: bool) -> Iterator[str]:
    """Yield the attempts of events whose own records have expired or were never traced."""
    events: dict[str, dict[tuple[str, int], list[AttemptRecord]]] = {}
    for attempt in trace.attempts:
        if attempt.event not in known:
            deliveries = events.setdefault(attempt.event, {})
            deliveries.setdefault((attempt.destination, attempt.copy), []).append(attempt)
    for event, deliveries in events.items():
        yield ""
        yield f"event {event}  {next(iter(deliveries.values()))[0].name}"
        for attempts in deliveries.values():
            yield from _attempts(attempts, whole=whole)


def _attempts(attempts: Sequence[AttemptRecord], *, whole: bool) -> Iterator[str]:
    """Yield the lines about the attempts of one delivery.

    Steps, losses and the sent request stand below the first attempt, and again where they differ
    from those before. After a dead letter, attempts are those of a replay and count anew.
    """
    replayed, before, sent = False, list[str](), list[str]()
    for attempt in attempts:
        yield _attempt(attempt, replayed=replayed)
        replayed = replayed or attempt.outcome == "dead_letter"
        if attempt.response_excerpt and attempt.response_excerpt not in attempt.reason:
            yield f"    response: {attempt.response_excerpt}"
        content = list(_content(attempt))
        if content and content != before:
            yield from content
            before = content
        message = list(_message(attempt.sent, 4)) if whole and attempt.sent else []
        if message and message != sent:
            yield from message
            sent = message


def _attempt(attempt: AttemptRecord, *, replayed: bool) -> str:
    """Return the line about an attempt."""
    response = "" if not attempt.number else "no response"
    if attempt.status is not None:
        response = f"HTTP {attempt.status}"
    seconds = "" if attempt.seconds is None else f" in {attempt.seconds:.3f} s"
    again = " of a replay" if replayed else ""
    figures = f", attempt {attempt.number}{again}: {response}{seconds}" if attempt.number else ""
    why = f": {attempt.reason}" if attempt.reason else ""
    outcome = {"retry": "will retry", "dead_letter": "dead letter"}.get(
        attempt.outcome, attempt.outcome
    )
    node = f" from {attempt.node}" if attempt.node else ""
    return f"  {format_time(attempt.at)} {attempt.destination}{node}{figures}; {outcome}{why}"


def _content(attempt: AttemptRecord) -> Iterator[str]:
    """Yield the lines about what an attempt sends: the changes by steps, and the losses."""
    if attempt.route:
        yield f"    after the steps of {attempt.route}{_changes(attempt)}"
    for kind in ("lost", "coerced"):
        paths = ", ".join(loss.path for loss in attempt.losses if loss.kind == kind)
        if paths:
            yield f"    {kind}: {paths}"


def _changes(attempt: AttemptRecord) -> str:
    changes = [f"{change.path} {change.kind}" for change in attempt.changes]
    if attempt.omitted_changes:
        changes.append(f"and {attempt.omitted_changes} more")
    return f": {', '.join(changes)}" if changes else ""


def _message(message: RecordedMessage, indent: int) -> Iterator[str]:
    space = " " * indent
    yield f"{space}{message.method} {message.url}"
    yield from (f"{space}{name}: {value}" for name, value in message.headers.items())
    yield from (f"{space}{line}" for line in indented(message.body).splitlines())
    if message.truncated:
        yield f"{space}… ({message.size} bytes in all)"


def _count(events: int) -> str:
    return "1 event" if events == 1 else f"{events} events"


def tail_line(line: TraceLine) -> Text:
    """Return *line* as ``gateway tail`` prints it."""
    seconds = "" if line.seconds is None else f" {line.seconds * 1000:.0f} ms"
    status = "" if line.status is None else f" {line.status}"
    user = line.user_id or line.anonymous_id
    text = Text(f"{format_time(line.at)[11:]} ", style="dim")
    style = "red" if line.failed else STYLES.get(line.outcome, "")
    way = f"{line.source} > {line.destination}" if line.destination else line.source
    text.append(f"{line.outcome:<11} ", style=style or "none")
    text.append(
        strip_control_characters(f"{way}  {line.name}{f'  {user}' if user else ''}"), style="none"
    )
    text.append(f"{status}{seconds}  {line.event or line.request}", style="dim")
    if line.reason:
        text.append(f"  {strip_control_characters(line.reason)}", style=style or "none")
    return text
