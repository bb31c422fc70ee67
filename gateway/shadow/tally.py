"""Count what a shadow destination would have received, with examples."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from gateway.event import NOTHING, Event, as_json
from gateway.json_text import dumps
from gateway.losses.field_outcomes import FieldOutcome, reason_of
from gateway.losses.reviewed import membered, named
from gateway.redact import Redactor

MAX_EXAMPLE_CHARS = 24
PERSONAL = (
    "user_id", "anonymous_id", "previous_id", "group_id", "session_id", "traits.", "context.ip",
    "context.device.id", "context.page.",
)  # fmt: skip
"""Prefixes of paths whose texts may identify a person and are not shown."""


def example(path: str, value: Any) -> str:
    """Return *value*, the event's at *path*, as the report shows it.

    Of texts that may identify a person, that contain ``@`` or that are free keys' values, only the
    length is shown; of objects and lists only the size.
    """
    hidden = path.startswith(PERSONAL) or "extra" in path.split(".")
    if isinstance(value, str):
        if hidden or "@" in value:
            return f"text of {len(value)}"
        return _short(value)
    if isinstance(value, tuple | list):
        return f"list of {len(value)}"
    if isinstance(value, Mapping):
        return f"object of {len(value)}"
    if hidden and not isinstance(value, bool):
        return "number"
    plain = as_json(value)
    return f"object of {len(plain)}" if isinstance(plain, dict) else _short(plain)


def _short(value: Any) -> str:
    text = dumps(value, default=str).decode()
    return text if len(text) <= MAX_EXAMPLE_CHARS else f"{text[: MAX_EXAMPLE_CHARS - 1]}…"


MOST_NAMES = 200
"""Event names that are counted separately per destination; senders choose them."""
MOST_FIELDS = 300
"""Fields that are counted separately per destination; above it, free keys count as one."""
MOST_REASONS = 100
MAX_REASON_CHARS = 160
"""Characters that are stored of a reason."""
LONGEST_NAME = 80
"""Characters that are stored of an event's name or of a free key."""
CUT = frozenset({MAX_REASON_CHARS, LONGEST_NAME})
"""Lengths of texts that may be truncated, possibly in the middle of a credential."""
NOTHING_HIDDEN = Redactor()
VARYING = re.compile(r"[^\s\"',]+@[^\s\"',]+|\d{5,}")
"""Parts of a reason that may identify a person, or that differ for each event."""
OTHERS = "(others)"

What = Literal["goes", "declined", "unrenderable"]


class Key(NamedTuple):
    """The properties that are counted together."""

    destination: str
    vendor: str
    """The vendor in whose format the events arrived; empty if no event is counted."""
    event: str
    what: str
    """Of events: ``goes``, ``declined`` or ``unrenderable``; else ``field``, ``answer``, ``beside``
    or ``skipped``."""
    field: str = ""
    how: str = ""
    """Of a field: kept, coerced, lost, or removed by the route's steps. Of an answer: accepted,
    refused, unanswered or unasked. Of ``beside``: the outcome at the destination in ``field``, and
    in the test account."""
    why: str = ""


class Count(NamedTuple):
    """A number, its first and last time, and an example."""

    number: int
    first: float
    """Unix seconds."""
    last: float
    example: str = ""


class BoundedNames:
    """The names that are counted separately for one destination, limited for each kind."""

    def __init__(self) -> None:
        self._kinds: dict[str, set[str]] = {}

    def name(self, kind: str, name: str, most: int, other: str = OTHERS) -> str:
        """Return *name*, or *other* if there are too many names already."""
        names = self._kinds.setdefault(kind, set())
        if name not in names:
            if len(names) >= most:
                return other
            names.add(name)
        return name


class ShadowTally:
    """Counts by key until `drain` returns the counts."""

    def __init__(self) -> None:
        self._counts: dict[Key, Count] = {}
        self._known: dict[str, BoundedNames] = {}

    def know(self, keys: Iterable[Key]) -> None:
        """Register the names from before a restart."""
        for key in keys:
            known = self._known.setdefault(key.destination, BoundedNames())
            known.name("event", key.event, MOST_NAMES)
            known.name("field", key.field, MOST_FIELDS)
            known.name(f"why {key.what}", key.why, MOST_REASONS)

    def event(self, destination: str, event: Event, what: What, at: float, why: str = "") -> None:
        """Count an event that would arrive, or would not."""
        self._add(self._key(destination, event, what, why=why), at)

    def answer(self, destination: str, event: Event, how: str, at: float, why: str = "") -> None:
        """Count a response of the test account."""
        self._add(self._key(destination, event, "answer", how=how, why=why), at)

    def fields(
        self,
        destination: str,
        event: Event,
        fates: Iterable[FieldOutcome],
        at: float,
        removed: Mapping[str, str] = NOTHING,
    ) -> None:
        """Count the outcomes of an event's fields, each field once per event.

        Args:
            destination: the shadow.
            event: the event as accepted.
            fates: the outcomes of the fields after the route's steps.
            at: Unix seconds.
            removed: the paths that the steps removed, each with the route's name.
        """
        seen: set[Key] = set()
        for fate in fates:
            key = self._key(
                destination, event, "field", field=fate.path, how=fate.how, why=fate.why
            )
            if key not in seen:
                seen.add(key)
                shown = "" if fate.how == "kept" else example(fate.path, fate.value)
                self._add(key, at, shown)
        for path, route in removed.items():
            why = f"the steps of the route {route!r} remove or move it"
            key = self._key(destination, event, "field", field=path, how="removed", why=why)
            if key not in seen:
                seen.add(key)
                self._add(key, at)

    def pair(self, destination: str, other: str, how: str, at: float) -> None:
        """Count the outcomes of an event at another destination and in the test account."""
        self._add(Key(destination, "", "", "beside", other, how), at)

    def skipped(self, destination: str, number: int, at: float) -> None:
        """Count deliveries that a shadow skipped."""
        self._add(Key(destination, "", "", "skipped"), at, number=number)

    def drain(self, redactor: Redactor = NOTHING_HIDDEN) -> dict[Key, Count]:
        """Return the counts and start again from zero.

        Args:
            redactor: hides credentials; a sender may have used one as a field's name.
        """

        def hide(text: str) -> str:
            return redactor.text_short(text) if len(text) in CUT else redactor.text(text)

        counts, self._counts = self._counts, {}
        clean = ShadowTally()
        for key, count in counts.items():
            event, field, why, shown = map(hide, (key.event, key.field, key.why, count.example))
            named = key._replace(event=event, field=field, why=why)
            clean._put(named, count._replace(example=shown))
        return clean._counts

    def restore(self, counts: dict[Key, Count]) -> None:
        """Add counts back that could not be written."""
        for key, count in counts.items():
            self._put(key, count)

    def _key(  # noqa: PLR0913 - one parameter per part of the key
        self,
        destination: str,
        event: Event,
        what: str,
        *,
        field: str = "",
        how: str = "",
        why: str = "",
    ) -> Key:
        known = self._known.setdefault(destination, BoundedNames())
        name = known.name("event", (event.name or event.type)[:LONGEST_NAME], MOST_NAMES)
        if field:
            counted = membered(field)[:LONGEST_NAME]
            field = known.name("field", counted, MOST_FIELDS, named(counted))
        if why:
            if what != "field":
                why = VARYING.sub("…", reason_of(why.removeprefix(f"{event.id}: ")))
            why = known.name(f"why {what}", why[:MAX_REASON_CHARS], MOST_REASONS)
        return Key(destination, event.origin, name, what, field, how, why)

    def _add(self, key: Key, at: float, shown: str = "", number: int = 1) -> None:
        self._put(key, Count(number, at, at, shown))

    def _put(self, key: Key, count: Count) -> None:
        have = self._counts.get(key)
        if have is None:
            self._counts[key] = count
        else:
            self._counts[key] = Count(
                have.number + count.number,
                min(have.first, count.first),
                max(have.last, count.last),
                have.example or count.example,
            )
