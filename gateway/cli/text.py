"""Explanations, traces and dead letters as lines for a person."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
from rich.text import Text

from gateway.cli.output import RedactingConsole, strip_control_characters
from gateway.event import as_json
from gateway.event_diff import MISSING, Difference, diff_events, leaf_values
from gateway.explain import (
    DeliveryExplanation,
    EventExplanation,
    Explanation,
    OutgoingRequest,
    RouteExplanation,
)
from gateway.http import Response
from gateway.ingest.arrival import is_sampled
from gateway.json_text import dumps, loads
from gateway.mapping import Loss
from gateway.observability.redacted_request import (
    RedactedRequest,
    indented,
    redact_received,
    redact_sent,
    redact_texts,
)
from gateway.plugin.registry import load_plugins
from gateway.redact import HIDDEN, hides, without_secrets
from gateway.routing.steps import StepResult
from gateway.spool import DeadLetter
from gateway.spool.dead_letters import DeadLetterSummary, Hide, format_time, summarize
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

OWN = frozenset({"id", "received_at", "origin"})
"""Fields of an event that are the gateway's, and say nothing about it."""
LABEL = 13
"""Columns of the names of steps."""
ENOUGH = 160
"""Characters of an answer that are shown."""
NARROWEST = 24
"""Columns that a text gets however far it is indented."""


def print_explanation(explanation: Explanation, out: RedactingConsole) -> None:
    """Print all of it."""
    request = explanation.request
    through = f" through {explanation.source}" if explanation.source else ""
    vendor = f", in the format of {explanation.vendor}" if explanation.vendor else ""
    say(out, 0, f"{request.method} {request.path}{through}{vendor}", style="bold")
    if explanation.refusal is not None:
        say(out, 2, f"becomes no event: {explanation.refusal.reason}", style="red")
        if explanation.refusal.answer is not None:
            _answered(out, explanation.refusal.answer)
        return
    if explanation.answer is not None:
        _answered(out, explanation.answer)
    if not explanation.events:
        say(out, 2, "holds no event, and is answered all the same")
    for number, event in enumerate(explanation.events, start=1):
        _event(event, number, len(explanation.events), out)


def _answered(out: RedactingConsole, answer: Response) -> None:
    body = answer.body.decode("utf-8", "replace").strip()
    say(out, 2, f"answered with {answer.status} {shorten(body)}".rstrip(), style="dim")


def _event(story: EventExplanation, number: int, count: int, out: RedactingConsole) -> None:
    event = story.event
    what = event.type if event.name is None else f"{event.name} ({event.type})"
    which = f"event {number} of {count}" if count > 1 else "event"
    say(out, 0, f"\n{which}: {what}", style="bold")
    told = {k: v for k, v in as_json(event).items() if k not in OWN and k not in {"type", "name"}}
    _aligned(out, 2, [(path, shown(value)) for path, value in leaf_values(without_secrets(told))])
    if story.planned is not None:
        say(out, 2, f"not as planned by schema {story.planned.schema!r}", style="yellow")
        _aligned(out, 4, [(wrong.place, wrong.what) for wrong in story.planned.violations])
        if story.planned.dropped:
            dropped = ", ".join(".".join(map(str, path)) for path in story.planned.dropped)
            say(out, 4, f"goes on without {dropped}")
    for route in story.routes:
        _route(route, out)


def _route(story: RouteExplanation, out: RedactingConsole) -> None:
    decision = story.decision
    mark, style = ("✓", "green") if decision.taken else ("✗", "dim")
    if decision.taken and not decision.gives:
        mark, style = "-", "yellow"
    say(out, 0, f"\n{mark} {decision.route}  → {', '.join(decision.destinations)}", style=style)
    say(out, 4, decision.reason)
    if decision.part:
        say(out, 4, decision.part, label="decided by", width=LABEL, style="cyan")
    for step in story.steps:
        _step(step, out)
    if decision.taken and decision.kept_back and not story.steps:
        say(out, 4, decision.kept_back, style="yellow")
    elif decision.taken and not decision.gives and not decision.kept_back:
        say(out, 4, "earlier routes have given these destinations the event", style="yellow")
    for delivery in story.deliveries:
        _delivery(delivery, out)


def _step(step: StepResult, out: RedactingConsole) -> None:
    if step.kept_back:
        say(
            out, 4, f"keeps it back: {step.kept_back}", label=step.word, width=LABEL, style="yellow"
        )
        return
    found = diff_events(step.before, step.after)
    if not found:
        passes = step.word in {"sample", "consent"}
        said = "lets it through" if passes else "changes nothing"
        say(out, 4, said, label=step.word, width=LABEL, style="dim")
    for number, change in enumerate(found):
        say(out, 4, written(change), label="" if number else step.word, width=LABEL)


def written(change: Difference) -> str:
    """Return a change as a line; of a credential, that it changed."""
    if hides(change.path):
        change = Difference(change.path, *map(_hidden, change[1:]))
    if change.before is MISSING:
        return f"{change.path}: {shown(change.after)} is new"
    if change.after is MISSING:
        return f"{change.path}: {shown(change.before)} is gone"
    return f"{change.path}: {shown(change.before)} → {shown(change.after)}"


def _hidden(value: Any) -> Any:
    return value if value is MISSING else HIDDEN


def _delivery(story: DeliveryExplanation, out: RedactingConsole) -> None:
    to = f"{story.destination} ({story.vendor}{', a shadow' if story.shadow else ''})"
    if story.request is None:
        how = "would be a dead letter" if story.dead else "gets nothing"
        say(out, 4, f"{to} {how}: {story.reason}", style="red" if story.dead else "yellow")
        return
    _request(story.request, f"{to} gets", out)
    for further in story.request.also:
        _request(further, "and", out)
    if story.losses:
        say(out, 6, "what does not arrive as it is", style="yellow")
        rows = [(loss.path, _loss(loss)) for loss in story.losses]
        _aligned(out, 8, rows)
    elif story.request.forwarded:
        say(out, 6, "the request as it came, with the credential exchanged", style="dim")
    else:
        say(out, 6, "nothing is lost", style="dim")
    for field, why in story.derived.items():
        say(out, 6, f"{field} is derived from {why}", style="dim")


def _loss(loss: Loss) -> str:
    said = f"{loss.how:<9}{shown(as_json(loss.value))}"
    return f"{said} ({loss.why})" if loss.why else said


def _request(sent: OutgoingRequest, head: str, out: RedactingConsole) -> None:
    say(out, 4, head, style="green")
    say(out, 6, f"{sent.method} {sent.url}")
    for name, value in sent.headers.items():
        say(out, 6, f"{name}: {value}", style="dim")
    for line in pretty(sent.body).splitlines():
        say(out, 6, line)


def _aligned(out: RedactingConsole, indent: int, rows: Iterable[tuple[str, str]]) -> None:
    rows = list(rows)
    width = min(max((len(label) for label, _ in rows), default=0) + 2, 40)
    for label, text in rows:
        say(out, indent, text, label=label, width=width, label_style="dim")


def say(  # noqa: PLR0913 - how a line may look, each once
    out: RedactingConsole,
    indent: int,
    text: str,
    *,
    style: str = "",
    label: str = "",
    width: int = 0,
    label_style: str = "dim",
) -> None:
    """Print *text* after a label of *width* columns; what is too long goes on below its start."""
    text, label = out.hide(text), out.hide(label)
    while text.startswith("\n"):
        out.print()
        text = text[1:]
    if label and len(label) >= width:
        out.print(Text(" " * indent + label, style=label_style), soft_wrap=True)
        label, width = "", 4
    inner = indent + width + len(text) - len(text.lstrip())
    room = max(out.width - inner, NARROWEST)
    for number, line in enumerate(Text(text.lstrip(), style).wrap(out, room, overflow="fold")):
        line.rstrip()
        left = Text(" " * indent) + Text((label if number == 0 else "").ljust(width), label_style)
        pad = Text(" " * (inner - indent - width))
        out.print(left + pad + line, soft_wrap=True)


def shown(value: Any) -> str:
    """Return a JSON value on one line."""
    return dumps(value, default=str).decode()


def pretty(text: str) -> str:
    """Return a body for reading: JSON indented, anything else as it is."""
    try:
        return dumps(loads(text), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # or it is nested too deeply
        return text


def shorten(text: str) -> str:
    """Return a text of which the beginning is enough."""
    return text if len(text) <= ENOUGH else f"{text[:ENOUGH]}…"


def lines(dead: DeadLetter, hide: Hide) -> Iterator[str]:
    """Yield what there is to know of a dead letter, in the order in which it happened.

    Args:
        dead: the letter.
        hide: takes credentials out of a text.
    """
    entry, letter = dead.entry, summarize(dead, hide)
    yield f"dead letter {letter.id} of {letter.destination}"
    yield f"  event     {letter.event_name or '(no name)'}, number {dead.index} of {entry.id}"
    yield f"  user      {letter.user or '(none)'}"
    if letter.route:
        yield f"  route     {letter.route}, after whose steps it is sent"
    yield f"  given up  {format_time(letter.at)} UTC, {letter.cause}: {letter.reason}"
    yield ""
    yield f"received at {format_time(entry.request.received_at.timestamp())} UTC by {entry.source}"
    came = redact_received(entry.request, load_plugins().inputs.get(entry.vendor))
    yield from _told(redact_texts(came, hide))
    for number, attempt in enumerate(dead.attempts, start=1):
        answer = "no answer" if attempt.status is None else f"HTTP {attempt.status}"
        yield ""
        at = format_time(attempt.at)
        yield f"attempt {number} at {at} UTC: {answer} in {attempt.latency:.3f} s"
        yield f"  {hide(attempt.response_excerpt)}"
    if last := redact_sent(dead.rendered):
        yield ""
        yield "sent last"
        yield from _told(redact_texts(last, hide))


def _told(request: RedactedRequest) -> Iterator[str]:
    yield f"  {request.method} {request.url}"
    yield from (f"  {name}: {value}" for name, value in request.headers.items())
    if request.unread:
        yield f"  ({request.unread})"
    yield from (f"  {line}" for line in request.body.splitlines())


Latest = Callable[[str], TraceLine | None]
STYLES = {"delivered": "green", "accepted": "", "declined": "yellow", "repeated": "yellow"}


def trace_lines(
    trace: Trace,
    *,
    whole: bool,
    latest: Latest = lambda _: None,
    held: SpoolRecords | None = None,
) -> Iterator[str]:
    """Yield what became of one request, in the order of its way.

    Args:
        trace: of the request.
        whole: with what was received and sent.
        latest: returns the newest line about a destination, if there is one.
        held: what the spool has of it; None where it could not be asked.
    """
    yield f"request {trace.request}"
    if trace.received is None:
        yield "  what was received was not traced, or is too old to be kept still"
    else:
        yield from _received(trace.received, whole=whole)
    known = {event.event for event in trace.events}
    for event in trace.events:
        yield ""
        yield from _trace_event(event)
        for end in delivery_statuses(trace, event, held):
            for tried in end.tries:
                yield from _tried(tried, whole=whole)
            yield from _stands(end, latest, trace.request, asked=held is not None)
    for tried in trace.tries:
        if tried.event not in known:
            yield ""
            yield f"event {tried.event}  {tried.name}"
            yield from _tried(tried, whole=whole)
    for letter in held.letters if held else ():
        if letter.event not in known:
            yield ""
            yield f"event {letter.event}  {letter.event_name}".rstrip()
            yield dead_letter_line(letter)


def _stands(end: DeliveryStatus, latest: Latest, request: str, *, asked: bool) -> Iterator[str]:
    """Yield how a delivery stands, as far as its tries do not say it."""
    letter = end.letter
    if letter is not None:
        told = bool(end.tries) and end.tries[-1].reason == f"{letter.cause}: {letter.reason}"
        yield f"    it is dead letter {letter.id}" if told else dead_letter_line(letter)
        return
    traced = is_sampled(request)
    words = end.words(traced=traced, asked=asked)
    if end.tries and words:
        yield f"    {words}"
    elif end.owed or (traced and not asked):
        yield f"  {end.destination}: nothing yet; {_waiting(end, latest(end.destination), words)}"
    elif words:
        yield f"  {end.destination}: {words}"


def _waiting(end: DeliveryStatus, latest: TraceLine | None, words: str) -> str:
    """Return what an untried delivery waits for, by the *latest* line about its destination."""
    behind = end.standing is not None and end.standing.behind
    if latest is None or latest.outcome != "later" or behind:
        return words
    at = format_time(latest.at)
    return f"it waits for the destination, which is in trouble: {latest.reason} ({at} UTC)"


def dead_letter_line(letter: DeadLetterSummary) -> str:
    """Return what there is to say of a dead letter."""
    at, number = format_time(letter.at), letter.id
    why = f"{letter.cause}: {letter.reason}"
    return f"  {letter.destination}: given up {at} as dead letter {number}; {why}"


def _received(received: RequestRecord, *, whole: bool) -> Iterator[str]:
    message = received.message
    came = f"{message.method} {message.url}, {message.size} bytes, {_count(received.events)}"
    key = f", with {received.credential}" if received.credential not in {"", "any"} else ""
    at = format_time(received.at)
    yield f"  received  {at} UTC by {received.source} ({received.vendor}){key}"
    yield f"            {came}"
    answer = "accepted" if received.status is None else f"HTTP {received.status}"
    seconds = "" if received.seconds is None else f" in {received.seconds:.3f} s"
    yield f"  answered  {answer}{seconds}"
    if received.fault:
        yield f"  refused   {received.fault}: {received.reason}"
    if whole:
        yield from _message(message, 4)


def _trace_event(event: EventRecord) -> Iterator[str]:
    name = event.name if event.name == event.type else f"{event.type} {event.name!r}"
    yield f"event {event.event}  {name}"
    ids = {"user": event.user_id, "anonymous": event.anonymous_id, "message": event.message_id}
    if any(ids.values()):
        yield "  " + ", ".join(f"{what} {one}" for what, one in ids.items() if one)
    if event.repeated:
        yield "  came before, and goes nowhere"
    for violation in event.planned:
        yield f"  not as planned: {violation}"
    for decision in event.decisions:
        yield from _decided(decision)


def _decided(decided: RouteRecord) -> Iterator[str]:
    to = ", ".join(decided.gives) or "nowhere new"
    how = f"to {to}" if decided.taken and not decided.kept_back else "not taken"
    if decided.kept_back:
        how = "kept back"
    yield f"  {decided.route}: {how}; {decided.kept_back or decided.reason}"
    if decided.part and not decided.kept_back:
        yield f"    decided by: {decided.part}"


def _tried(tried: AttemptRecord, *, whole: bool) -> Iterator[str]:
    answer = "" if not tried.number else "no answer"
    if tried.status is not None:
        answer = f"HTTP {tried.status}"
    seconds = "" if tried.seconds is None else f" in {tried.seconds:.3f} s"
    figures = f", try {tried.number}: {answer}{seconds}" if tried.number else ""
    why = f": {tried.reason}" if tried.reason else ""
    outcome = {"later": "tried again later", "dead": "dead letter"}.get(
        tried.outcome, tried.outcome
    )
    yield f"  {format_time(tried.at)} {tried.destination}{figures}; {outcome}{why}"
    if tried.route:
        yield f"    after the steps of {tried.route}{_changes(tried)}"
    if tried.said and tried.said not in tried.reason:
        yield f"    it said: {tried.said}"
    for how in ("lost", "coerced"):
        paths = ", ".join(loss.path for loss in tried.losses if loss.how == how)
        if paths:
            yield f"    {how}: {paths}"
    if whole and tried.sent is not None:
        yield from _message(tried.sent, 4)


def _changes(tried: AttemptRecord) -> str:
    said = [f"{change.path} {change.how}" for change in tried.changes]
    if tried.omitted_changes:
        said.append(f"and {tried.omitted_changes} more")
    return f": {', '.join(said)}" if said else ""


def _message(message: RecordedMessage, indent: int) -> Iterator[str]:
    space = " " * indent
    yield f"{space}{message.method} {message.url}"
    yield from (f"{space}{name}: {value}" for name, value in message.headers.items())
    yield from (f"{space}{line}" for line in indented(message.body).splitlines())
    if message.cut:
        yield f"{space}… ({message.size} bytes in all)"


def _count(events: int) -> str:
    return "1 event" if events == 1 else f"{events} events"


def tail_line(line: TraceLine) -> Text:
    """Return what ``gateway tail`` prints of *line*."""
    seconds = "" if line.seconds is None else f" {line.seconds * 1000:.0f} ms"
    status = "" if line.status is None else f" {line.status}"
    user = line.user_id or line.anonymous_id
    text = Text(f"{format_time(line.at)[11:]} ", style="dim")
    style = "red" if line.failed else STYLES.get(line.outcome, "")
    way = f"{line.source} > {line.destination}" if line.destination else line.source
    text.append(f"{line.outcome:<9} ", style=style or "none")
    text.append(
        strip_control_characters(f"{way}  {line.name}{f'  {user}' if user else ''}"), style="none"
    )
    text.append(f"{status}{seconds}  {line.event or line.request}", style="dim")
    if line.reason:
        text.append(f"  {strip_control_characters(line.reason)}", style=style or "none")
    return text
