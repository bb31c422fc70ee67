# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""What is lost from each vendor to each other, measured on the samples of the tests."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

from docs.markdown import ROOT, blocks, code, table
from gateway.config import load
from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.exchange import Declined
from gateway.mapping import SILENT, filled
from gateway.plugin import Output, Secret, Settings
from gateway.plugins import Registry
from gateway.testing import load_samples, request_of

CONFIG = "config/gateway.toml"
"""The configuration that gives the destinations their settings."""
CREDENTIAL = Secret("sandbox")
SHOWN = 6
"""How many kinds of events a reason lists."""


@dataclass
class Pair:
    """What became of one vendor's events at one destination, in events and in fields."""

    delivered: int = 0
    declined: int = 0
    kept: int = 0
    coerced: int = 0
    lost: int = 0


@dataclass
class Exit:
    """What became of all events at one destination."""

    pairs: dict[str, Pair]
    """By the vendor that an event came from."""
    fields: dict[str, Counter[str]] = field(default_factory=dict)
    """Field to ``lost`` and ``coerced``, each with its number of events."""
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    """Why events were declined, and which."""


def losses(registry: Registry) -> str:
    """Return what is delivered, declined, kept and lost between all vendors, in Markdown."""
    exits = _measured(registry)
    events = _matrix(registry, exits, lambda pair: f"{pair.delivered} / {pair.declined}")
    fields = _matrix(registry, exits, lambda p: f"{p.kept} / {p.coerced} / {p.lost}")
    parts = [
        "## Events: delivered / declined",
        events,
        "## Fields of delivered events: kept / coerced / lost",
        fields,
    ]
    for vendor, found in exits.items():
        parts += [f"## To {vendor}", *_details(found)]
    return blocks(parts)


def _measured(registry: Registry) -> dict[str, Exit]:
    """Return, by destination, what becomes of the events of all samples."""
    events = {vendor: list(_events(registry, vendor)) for vendor in registry.inputs}
    exits = {}
    for destination in load(ROOT / CONFIG, registry, {}).destinations.values():
        output = registry.outputs[destination.vendor](_with_keys(destination.settings))
        found = exits[output.name] = Exit({vendor: Pair() for vendor in events})
        for vendor, told in events.items():
            for event in told:
                _deliver(output, event, found, found.pairs[vendor])
    return dict(sorted(exits.items()))


def _with_keys(settings: Settings) -> Settings:
    """Return *settings* with every credential set, those that the vendor does not require too."""
    unset = (name for name, value in settings if value is None)
    fields = type(settings).model_fields
    keys = {name: CREDENTIAL for name in unset if Secret in get_args(fields[name].annotation)}
    return settings.model_copy(update=keys)


def _events(registry: Registry, vendor: str) -> Iterator[Event]:
    reads = registry.inputs[vendor]()
    for sample in load_samples(ROOT / "tests/vendors" / vendor).values():
        yield from reads.parse(request_of(sample))


def _deliver(output: Output, event: Event, found: Exit, pair: Pair) -> None:
    try:
        sent = output.render(event)
    except Unrenderable as error:
        sent = Declined(f"a dead letter: {error}")
    if isinstance(sent, Declined):
        pair.declined += 1
        reason = re.sub(r"(?<!\w)'[^']*'", "'…'", sent.reason)
        found.reasons.setdefault(reason, Counter())[event.name or event.type] += 1
        return
    pair.delivered += 1
    how = {loss.path: loss.how for loss in output.losses(event)}
    said = Counter(_fate(path, how) for path, _ in filled(event) if path not in SILENT)
    pair.kept += said["kept"]
    pair.coerced += said["coerced"]
    pair.lost += said["lost"]
    for path, kind in {(_named(path), kind) for path, kind in how.items()}:
        found.fields.setdefault(path, Counter())[kind] += 1


def _fate(path: str, how: Mapping[str, str]) -> str:
    """Return what became of the field at *path*, or of the whole that it is a part of."""
    wholes = (path[: mark.start()] for mark in re.finditer(r"\[|\.", path))
    return next((how[whole] for whole in (path, *wholes) if whole in how), "kept")


def _named(path: str) -> str:
    """Return the name under which *path* is counted: free keys are counted as one."""
    return re.sub(r"(^|\.)(extra|consent)\..*", r"\1\2.*", path)


def _matrix(registry: Registry, exits: dict[str, Exit], shown: Callable[[Pair], str]) -> str:
    rows = [
        (f"from {vendor}", *(shown(found.pairs[vendor]) for found in exits.values()))
        for vendor in registry.inputs
    ]
    return table(("", *(f"to {vendor}" for vendor in exits)), rows, right=len(exits))


def _details(found: Exit) -> Iterator[str]:
    delivered = sum(pair.delivered for pair in found.pairs.values())
    rows = [
        (code(path), _count(kinds["lost"]), _count(kinds["coerced"]))
        for path, kinds in sorted(found.fields.items(), key=lambda f: (-f[1].total(), f[0]))
    ]
    yield f"In how many of the {delivered} events a field is lost or coerced:"
    yield table(("field", "lost", "coerced"), rows, right=2)
    if found.reasons:
        ranked = sorted(found.reasons.items(), key=lambda r: (-r[1].total(), r[0]))
        reasons = [(why, _kinds(which), str(which.total())) for why, which in ranked]
        yield "Declined:"
        yield table(("reason", "events", ""), reasons, right=1)


def _count(number: int) -> str:
    return str(number) if number else ""


def _kinds(which: Counter[str]) -> str:
    names = [name for name, _ in sorted(which.items(), key=lambda w: (-w[1], w[0]))]
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
