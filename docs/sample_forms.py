# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""One sample in four forms: as received, neutral, as sent to each vendor, and what is lost."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import orjson

from docs.markdown import ROOT, blocks, code, table
from gateway.config.loader.load import load
from gateway.errors import Unrenderable
from gateway.event import Event, as_json
from gateway.http import Request
from gateway.mapping import Loss
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import Output
from gateway.testing import load_samples, request_of
from gateway.testing.samples import plain
from gateway.verdict import Declined

CONFIG = "config/gateway.toml"
"""The configuration that gives the destinations their settings and their order."""
LONGEST = 60
"""Characters of a value that are shown."""
WIDTH = 90
"""Columns that a part of a JSON text may fill before it is spread over lines."""
FEW = 3
"""How many fields a summary lists by name."""


def forms(registry: PluginRegistry, vendor: str, case: str) -> str:
    """Return the sample *case* of *vendor*, and what becomes of it everywhere, in Markdown.

    Raises:
        ValueError: it does not hold exactly one event.
    """
    sample = load_samples(ROOT / "tests/vendors" / vendor)[case]
    received = request_of(sample)
    events = registry.inputs[vendor]().parse(received)
    if len(events) != 1:
        raise ValueError(f"{vendor}/{case} holds {len(events)} events; choose one with a single")
    about = sample["about"]
    told = f"{about[0].lower()}{about[1:]} ({code(f'tests/vendors/{vendor}/{case}.json')})."
    parts = [
        textwrap.fill(f"This one is {told}", 118, break_on_hyphens=False),
        "**As received:**",
        _http(received),
        "**As a neutral event:**",
        _fence("json", _pretty(plain(events[0]))),
        "**As sent to each vendor, and what is lost**, as `config/gateway.toml` has them:",
    ]
    for destination in load(ROOT / CONFIG, registry, {}).destinations.values():
        output = registry.outputs[destination.vendor](destination.settings)
        parts += _sent(output, events[0], received)
    return blocks(parts)


def _sent(output: Output, event: Event, received: Request) -> Iterator[str]:
    """Yield what goes out and what is lost, folded away under one line that sums it up."""
    own = output.name == event.origin
    forwarded = output.forward(received) if own else None
    if forwarded is not None:
        yield from _folded(f"To {output.name}: as it came, with our credential", _http(forwarded))
        return
    try:
        sent = output.render(event)
    except Unrenderable as error:
        sent = Declined(str(error))
    if isinstance(sent, Declined):
        yield from _folded(f"To {output.name}: nothing", f"Declined: {sent.reason}.")
        return
    losses = output.losses(event)
    said = [_http(sent)]
    if losses:
        said += [table(("field", "", "value"), (_row(loss) for loss in losses))]
    yield from _folded(f"To {output.name}: {_summary(losses)}", *said)


def _folded(summary: str, *parts: str) -> Iterator[str]:
    yield f"<details>\n<summary>{summary}</summary>"
    yield from parts
    yield "</details>"


def _summary(losses: list[Loss]) -> str:
    lost = [loss.path for loss in losses if loss.how == "lost"]
    coerced = len(losses) - len(lost)
    names = ", ".join(lost[:FEW]) + (f" and {len(lost) - FEW} more" if len(lost) > FEW else "")
    said = [f"{names} lost"] if lost else []
    said += [f"{coerced} in another form"] if coerced else []
    return "; ".join(said) or "nothing is lost"


def _row(loss: Loss) -> tuple[str, ...]:
    value = orjson.dumps(as_json(loss.value), default=str).decode()
    short = value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
    return code(loss.path), loss.how, code(short)


def _http(request: Request) -> str:
    """Return *request* as it goes over the wire, its JSON indented for reading."""
    parts = urlsplit(request.url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = dict(request.headers)
    if parts.netloc:
        headers = {"host": parts.netloc, **headers}
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    try:
        body = _pretty(orjson.loads(request.body)) if request.body else ""
    except orjson.JSONDecodeError:
        body = request.body.decode()
    return _fence("http", "\n".join([*lines, "", body]).rstrip())


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _pretty(value: Any, indent: str = "") -> str:
    """Return JSON whose short parts stay on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= WIDTH or not isinstance(value, dict | list) or not value:
        return line
    deeper = f"{indent}  "
    if isinstance(value, list):
        inner, ends = [_pretty(item, deeper) for item in value], "[]"
    else:
        ends = "{}"
        inner = [f"{json.dumps(key)}: {_pretty(item, deeper)}" for key, item in value.items()]
    below = ",\n".join(f"{deeper}{part}" for part in inner)
    return f"{ends[0]}\n{below}\n{indent}{ends[1]}"
