"""Print explanations and dead letters as lines of text."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from rich.text import Text

from gateway.cli.output import RedactingConsole, printable
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
from gateway.ingest.suppression import REASON as SUPPRESSED
from gateway.json_text import dumps, loads
from gateway.mapping import Loss
from gateway.observability.redacted_request import (
    RedactedRequest,
    redact_received,
    redact_sent,
    redact_texts,
)
from gateway.plugin.registry import load_plugins
from gateway.redact import HIDDEN, hides, without_secrets
from gateway.routing.steps import StepResult
from gateway.spool import DeadLetter
from gateway.spool.dead_letters import Hide, format_time, summarize

GATEWAY_FIELDS = frozenset({"id", "received_at", "origin"})
"""Fields of an event that the gateway sets; they are not printed."""
LABEL = 13
"""Columns of the names of steps."""
MAX_RESPONSE = 160
"""Characters that are shown of a response."""
MIN_WIDTH = 24
"""Columns of a text, however far it is indented."""


def print_explanation(explanation: Explanation, out: RedactingConsole) -> None:
    """Print what the gateway would do with a request: events, routes, steps, outgoing requests."""
    request = explanation.request
    through = f" through {explanation.source}" if explanation.source else ""
    vendor = f", in the format of {explanation.vendor}" if explanation.vendor else ""
    say(out, 0, f"{request.method} {request.path}{through}{vendor}", style="bold")
    if explanation.refusal is not None:
        say(out, 2, f"no event: {explanation.refusal.reason}", style="red")
        if explanation.refusal.answer is not None:
            _response(out, explanation.refusal.answer)
        return
    if explanation.answer is not None:
        _response(out, explanation.answer)
    if not explanation.events:
        say(out, 2, "no events in this request; the gateway still responds")
    for number, event in enumerate(explanation.events, start=1):
        _event(event, number, len(explanation.events), out)


def _response(out: RedactingConsole, response: Response) -> None:
    body = response.body.decode("utf-8", "replace").strip()
    say(out, 2, f"response: {response.status} {shorten(body)}".rstrip(), style="dim")


def _event(explained: EventExplanation, number: int, count: int, out: RedactingConsole) -> None:
    event = explained.event
    what = event.type if event.name is None else f"{event.name} ({event.type})"
    which = f"event {number} of {count}" if count > 1 else "event"
    say(out, 0, f"\n{which}: {what}", style="bold")
    left_out = GATEWAY_FIELDS | {"type", "name"}
    fields = {key: value for key, value in as_json(event).items() if key not in left_out}
    _aligned(out, 2, [(path, shown(value)) for path, value in leaf_values(without_secrets(fields))])
    if (planned := explained.planned) is not None:
        say(out, 2, f"violates schema {planned.schema!r} of the tracking plan", style="yellow")
        _aligned(out, 4, [(wrong.place, wrong.what) for wrong in planned.violations])
        if planned.dropped:
            dropped = ", ".join(".".join(map(str, path)) for path in planned.dropped)
            say(out, 4, f"continues without {dropped}")
    if explained.suppressed:
        say(out, 2, f"goes nowhere: {SUPPRESSED}", style="yellow")
    for route in explained.routes:
        _route(route, out)


def _route(explained: RouteExplanation, out: RedactingConsole) -> None:
    decision = explained.decision
    mark, style = ("✓", "green") if decision.taken else ("✗", "dim")
    if decision.taken and not decision.routed_to:
        mark, style = "-", "yellow"
    say(out, 0, f"\n{mark} {decision.route}  → {', '.join(decision.destinations)}", style=style)
    say(out, 4, decision.reason)
    if decision.decided_by:
        say(out, 4, decision.decided_by, label="decided by", width=LABEL, style="cyan")
    for step in explained.steps:
        _step(step, out)
    if decision.taken and decision.filtered and not explained.steps:
        say(out, 4, decision.filtered, style="yellow")
    elif decision.taken and not decision.routed_to and not decision.filtered:
        say(out, 4, "an earlier route already sends the event there", style="yellow")
    for delivery in explained.deliveries:
        _delivery(delivery, out)


def _step(step: StepResult, out: RedactingConsole) -> None:
    if step.filtered:
        say(out, 4, f"filtered: {step.filtered}", label=step.word, width=LABEL, style="yellow")
        return
    found = diff_events(step.before, step.after)
    if not found:
        is_filter = step.word in {"sample", "consent"}
        text = "passed" if is_filter else "no change"
        say(out, 4, text, label=step.word, width=LABEL, style="dim")
    for number, change in enumerate(found):
        say(out, 4, written(change), label="" if number else step.word, width=LABEL)


def written(change: Difference) -> str:
    """Return a change of an event as a line; the value of a credential is hidden."""
    if hides(change.path):
        change = Difference(change.path, *map(_hidden, change[1:]))
    if change.before is MISSING:
        return f"{change.path}: added {shown(change.after)}"
    if change.after is MISSING:
        return f"{change.path}: removed {shown(change.before)}"
    return f"{change.path}: {shown(change.before)} → {shown(change.after)}"


def _hidden(value: Any) -> Any:
    return value if value is MISSING else HIDDEN


def _delivery(explained: DeliveryExplanation, out: RedactingConsole) -> None:
    kind = f"{explained.vendor}, a shadow" if explained.shadow else explained.vendor
    to, request = f"{explained.destination} ({kind})", explained.request
    if request is None:
        how = "would become a dead letter" if explained.dead else "gets nothing"
        style = "red" if explained.dead else "yellow"
        say(out, 4, f"{to} {how}: {explained.reason}", style=style)
        return
    _request(request, f"{to} gets", out)
    for further in request.also:
        _request(further, "and", out)
    if explained.losses:
        say(out, 6, "lost or coerced", style="yellow")
        lost_first = sorted(explained.losses, key=lambda loss: loss.how != "lost")
        rows = [(loss.path, _loss(loss)) for loss in lost_first]
        _aligned(out, 8, rows)
    elif request.forwarded:
        say(out, 6, "the request as received, with the destination's key", style="dim")
    else:
        say(out, 6, "nothing is lost", style="dim")
    for field, why in explained.derived.items():
        say(out, 6, f"{field} is derived from {why}", style="dim")


def _loss(loss: Loss) -> str:
    text = f"{loss.how:<9}{shown(as_json(loss.value))}"
    return f"{text} ({loss.why})" if loss.why else text


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


def say(  # noqa: PLR0913 - one parameter per property of a line
    out: RedactingConsole,
    indent: int,
    text: str,
    *,
    style: str = "",
    label: str = "",
    width: int = 0,
    label_style: str = "dim",
) -> None:
    """Print *text* after a label of *width* columns; wrapped lines begin below the text's start."""
    text, label = printable(out.hide(text)), printable(out.hide(label))
    while text.startswith("\n"):
        out.print()
        text = text[1:]
    if label and len(label) >= width:
        out.print(Text(" " * indent + label, style=label_style), soft_wrap=True)
        label, width = "", 4
    inner = indent + width + len(text) - len(text.lstrip())
    columns = max(out.width - inner, MIN_WIDTH)
    for number, line in enumerate(Text(text.lstrip(), style).wrap(out, columns, overflow="fold")):
        line.rstrip()
        left = Text(" " * indent) + Text((label if number == 0 else "").ljust(width), label_style)
        pad = Text(" " * (inner - indent - width))
        out.print(left + pad + line, soft_wrap=True)


def shown(value: Any) -> str:
    """Return a JSON value on one line."""
    return dumps(value, default=str).decode()


def pretty(text: str) -> str:
    """Return a body for display: JSON is indented, other text is unchanged."""
    try:
        return dumps(loads(text), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # the latter: nested too deeply
        return text


def shorten(text: str) -> str:
    """Truncate a response for display."""
    return text if len(text) <= MAX_RESPONSE else f"{text[:MAX_RESPONSE]}…"


def lines(dead: DeadLetter, hide: Hide) -> Iterator[str]:
    """Yield the lines about a dead letter: the request, each attempt, the last outgoing request.

    Args:
        dead: the dead letter.
        hide: removes credentials from a text.
    """
    entry, letter = dead.entry, summarize(dead, hide)
    yield f"dead letter {letter.id} of {letter.destination}"
    yield f"  event     {letter.event_name or '(no name)'}"
    yield f"  request   {entry.id}, event {dead.index}"
    yield f"  user      {letter.user or '(none)'}"
    if letter.route:
        yield f"  route     {letter.route}; a replay applies its steps"
    yield f"  given up  {format_time(letter.at)} UTC, {letter.cause}: {letter.reason}"
    yield ""
    yield f"received at {format_time(entry.request.received_at.timestamp())} UTC by {entry.source}"
    came = redact_received(entry.request, load_plugins().inputs.get(entry.vendor))
    yield from _request_lines(redact_texts(came, hide))
    for number, attempt in enumerate(dead.attempts, start=1):
        response = "no response" if attempt.status is None else f"HTTP {attempt.status}"
        yield ""
        at = format_time(attempt.at)
        yield f"attempt {number} at {at} UTC: {response} in {attempt.latency:.3f} s"
        yield f"  {hide(attempt.response_excerpt)}"
    if last := redact_sent(dead.rendered):
        yield ""
        yield "last request sent"
        yield from _request_lines(redact_texts(last, hide))


def _request_lines(request: RedactedRequest) -> Iterator[str]:
    yield f"  {request.method} {request.url}"
    yield from (f"  {name}: {value}" for name, value in request.headers.items())
    if request.unread:
        yield f"  ({request.unread})"
    yield from (f"  {line}" for line in request.body.splitlines())
