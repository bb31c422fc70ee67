"""Make the report of a shadow from its counts: what would arrive, and whether to switch."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from gateway.shadow.tally import Count, Key

Spelt = Callable[[str, str], str]
"""Returns the wire path of a field, given a vendor and the field."""
WORSE = ("lost", "coerced", "removed")


class EventLine(NamedTuple):
    """One kind of event, by source vendor."""

    event: str
    vendor: str
    seen: int
    arriving: int
    reasons: tuple[tuple[str, int], ...]
    """Why the other events would not arrive, with their number."""
    accepted: bool = False
    """The user accepts that it does not arrive."""


class FieldLine(NamedTuple):
    """One field that is lost, coerced or removed."""

    field: str
    vendor: str
    sent_as: str
    """Its wire path in the source vendor's payloads."""
    kind: str
    number: int
    total: int
    """The number of events that have the field and would arrive."""
    events: tuple[str, ...]
    reason: str
    example: str
    accepted: bool = False


class ResponseLine(NamedTuple):
    """One kind of response of the test account."""

    outcome: str
    number: int
    reason: str


class ComparisonLine(NamedTuple):
    """How many events had an outcome at a real destination, and another in the test account."""

    destination: str
    outcome: str
    test_account: str
    number: int


class ShadowReport(NamedTuple):
    """The report of one shadow."""

    destination: str
    first: float
    """Unix seconds of the first event, as ``last`` of the last."""
    last: float
    seen: int
    arriving: int
    skipped: int
    """Deliveries that it skipped because it was too slow."""
    kept: int
    """The number of different fields that arrive unchanged."""
    events: Sequence[EventLine]
    fields: Sequence[FieldLine]
    responses: Sequence[ResponseLine]
    comparisons: Sequence[ComparisonLine]

    @property
    def open(self) -> list[str]:
        """Return the reasons not to switch; empty if there is none."""
        missing = sum(line.seen - line.arriving for line in self.events if not line.accepted)
        reasons = [f"{missing} of {self.seen} events would not arrive"] if missing else []
        for how in ("lost", "coerced"):
            names = {line.field for line in self.fields if line.kind == how and not line.accepted}
            if names:
                fields = "1 field" if len(names) == 1 else f"{len(names)} fields"
                reasons.append(f"{fields} would be {how}")
        refused = sum(line.number for line in self.responses if line.outcome == "refused")
        if refused:
            reasons.append(f"the test account refused {refused}")
        return reasons

    @property
    def verdict(self) -> str:
        """Return in one sentence whether it is safe to switch."""
        if not self.seen:
            return "No event seen yet."
        if self.open:
            return f"Not safe to switch yet: {'; '.join(self.open)}."
        but = any(e.accepted for e in self.events) or any(f.accepted for f in self.fields)
        what = "everything except what you accept" if but else "everything"
        removed = any(line.kind == "removed" for line in self.fields)
        aside = ", except what the route's steps remove" if removed else ""
        return f"Safe to switch: {what} of {self.seen} events would arrive{aside}."


def report(
    destination: str, counts: Mapping[Key, Count], spelt: Spelt, accepted: Sequence[str] = ()
) -> ShadowReport:
    """Make the report of a shadow.

    Args:
        destination: the name of the shadow.
        counts: its counts.
        spelt: returns the wire path of a field in a source vendor's payloads.
        accepted: patterns of fields and event names that need not arrive.
    """
    whole = {key: count for key, count in counts.items() if key.event}
    events = _events(counts, accepted)
    fields, kept = _fields(counts, spelt, accepted)
    return ShadowReport(
        destination,
        min((count.first for count in whole.values()), default=0.0),
        max((count.last for count in whole.values()), default=0.0),
        sum(line.seen for line in events),
        sum(line.arriving for line in events),
        sum(count.number for key, count in counts.items() if key.what == "skipped"),
        kept,
        events,
        fields,
        _answers(counts),
        _beside(counts),
    )


def _events(counts: Mapping[Key, Count], accepted: Sequence[str]) -> list[EventLine]:
    goes: Counter[tuple[str, str]] = Counter()
    stays: dict[tuple[str, str], Counter[str]] = {}
    for key, count in counts.items():
        kind = (key.event, key.vendor)
        if key.what in {"declined", "unrenderable"}:
            why = key.why if key.what == "declined" else f"a dead letter: {key.why}"
            stays.setdefault(kind, Counter())[why] += count.number
        elif key.what == "goes":
            goes[kind] += count.number
    lines = []
    for kind in {**goes, **stays}:
        reasons = stays.get(kind, Counter[str]())
        seen = goes[kind] + reasons.total()
        live = any(fnmatchcase(kind[0], pattern) for pattern in accepted)
        lines.append(EventLine(*kind, seen, goes[kind], tuple(reasons.most_common()), live))
    return sorted(lines, key=lambda line: (-line.seen, line.event, line.vendor))


def _fields(
    counts: Mapping[Key, Count], spelt: Spelt, accepted: Sequence[str]
) -> tuple[list[FieldLine], int]:
    having: Counter[tuple[str, str]] = Counter()
    whole: set[tuple[str, str]] = set()
    found: dict[tuple[str, str, str, str], list[tuple[str, Count]]] = {}
    for key, count in counts.items():
        if key.what != "field":
            continue
        field = (key.field, key.vendor)
        having[field] += count.number
        if key.how in WORSE:
            found.setdefault((*field, key.how, key.why), []).append((key.event, count))
        else:
            whole.add(field)
    lines = [
        FieldLine(
            field,
            vendor,
            spelt(vendor, field),
            how,
            sum(count.number for _, count in within),
            having[field, vendor],
            tuple(event for event, _ in within),
            why,
            next((count.example for _, count in within if count.example), ""),
            any(fnmatchcase(field, pattern) for pattern in accepted),
        )
        for (field, vendor, how, why), within in found.items()
    ]
    lines.sort(key=lambda line: (WORSE.index(line.kind), -line.number, line.field))
    return lines, len({field for field, _ in whole - {(f.field, f.vendor) for f in lines}})


def _answers(counts: Mapping[Key, Count]) -> list[ResponseLine]:
    found: Counter[tuple[str, str]] = Counter()
    for key, count in counts.items():
        if key.what == "answer":
            found[key.how, key.why] += count.number
    return [ResponseLine(how, number, why) for (how, why), number in found.most_common()]


def _beside(counts: Mapping[Key, Count]) -> list[ComparisonLine]:
    found = []
    for key, count in counts.items():
        if key.what == "beside":
            there, _, here = key.how.partition(", ")
            found.append(ComparisonLine(key.field, there, here, count.number))
    return sorted(found, key=lambda line: (line.destination, -line.number))
