"""An explanation, in lines that a person can read."""

from collections.abc import Iterable
from typing import Any

import orjson
from rich.text import Text

from gateway.changes import GONE, Change, changes, leaves
from gateway.cli.terminal import Paper
from gateway.event import as_json
from gateway.exchange import Response
from gateway.explain import DeliveryStory, EventStory, Explanation, RouteStory, Sent
from gateway.json_text import dumps, loads
from gateway.mapping import Loss
from gateway.routing.steps import Taken
from gateway.secret_names import HIDDEN, hides, without_secrets

OWN = frozenset({"id", "received_at", "origin"})
"""Fields of an event that are the gateway's, and say nothing about it."""
LABEL = 13
"""Columns of the names of steps."""
ENOUGH = 160
"""Characters of an answer that are shown."""
NARROWEST = 24
"""Columns that a text gets however far it is indented."""


def tell(explanation: Explanation, out: Paper) -> None:
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


def _answered(out: Paper, answer: Response) -> None:
    body = answer.body.decode("utf-8", "replace").strip()
    say(out, 2, f"answered with {answer.status} {short(body)}".rstrip(), style="dim")


def _event(story: EventStory, number: int, count: int, out: Paper) -> None:
    event = story.event
    what = event.type if event.name is None else f"{event.name} ({event.type})"
    which = f"event {number} of {count}" if count > 1 else "event"
    say(out, 0, f"\n{which}: {what}", style="bold")
    told = {k: v for k, v in as_json(event).items() if k not in OWN and k not in {"type", "name"}}
    _aligned(out, 2, [(path, shown(value)) for path, value in leaves(without_secrets(told))])
    if story.planned is not None:
        say(out, 2, f"not as planned by schema {story.planned.schema!r}", style="yellow")
        _aligned(out, 4, [(wrong.place, wrong.what) for wrong in story.planned.violations])
        if story.planned.dropped:
            dropped = ", ".join(".".join(map(str, path)) for path in story.planned.dropped)
            say(out, 4, f"goes on without {dropped}")
    for route in story.routes:
        _route(route, out)


def _route(story: RouteStory, out: Paper) -> None:
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


def _step(step: Taken, out: Paper) -> None:
    if step.kept_back:
        say(
            out, 4, f"keeps it back: {step.kept_back}", label=step.word, width=LABEL, style="yellow"
        )
        return
    found = changes(step.before, step.after)
    if not found:
        passes = step.word in {"sample", "consent"}
        said = "lets it through" if passes else "changes nothing"
        say(out, 4, said, label=step.word, width=LABEL, style="dim")
    for number, change in enumerate(found):
        say(out, 4, written(change), label="" if number else step.word, width=LABEL)


def written(change: Change) -> str:
    """Return a change as a line; of a credential, that it changed."""
    if hides(change.path):
        change = Change(change.path, *map(_hidden, change[1:]))
    if change.before is GONE:
        return f"{change.path}: {shown(change.after)} is new"
    if change.after is GONE:
        return f"{change.path}: {shown(change.before)} is gone"
    return f"{change.path}: {shown(change.before)} → {shown(change.after)}"


def _hidden(value: Any) -> Any:
    return value if value is GONE else HIDDEN


def _delivery(story: DeliveryStory, out: Paper) -> None:
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


def _request(sent: Sent, head: str, out: Paper) -> None:
    say(out, 4, head, style="green")
    say(out, 6, f"{sent.method} {sent.url}")
    for name, value in sent.headers.items():
        say(out, 6, f"{name}: {value}", style="dim")
    for line in pretty(sent.body).splitlines():
        say(out, 6, line)


def _aligned(out: Paper, indent: int, rows: Iterable[tuple[str, str]]) -> None:
    rows = list(rows)
    width = min(max((len(label) for label, _ in rows), default=0) + 2, 40)
    for label, text in rows:
        say(out, indent, text, label=label, width=width, label_style="dim")


def say(  # noqa: PLR0913 - how a line may look, each once
    out: Paper,
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


def short(text: str) -> str:
    """Return a text of which the beginning is enough."""
    return text if len(text) <= ENOUGH else f"{text[:ENOUGH]}…"
