"""The rows of one payload, walked in both directions."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeAlias

from gateway.errors import Fault, Rejected
from gateway.event import EVENT_TYPES, Event
from gateway.exchange import EPOCH
from gateway.mapping.nested import Nested
from gateway.mapping.row import Row, within
from gateway.mapping.shape import Built, Group, assemble, groups, needed
from gateway.mapping.step import EMPTY, Step
from gateway.mapping.trie import Walk, trie

Found: TypeAlias = tuple[Built, dict[str, Any]]
"""The values of one event by group, and what no row mapped."""
Kind: TypeAlias = tuple[str, str | None]
"""A type of events, and a name; None for any."""


class Stamp(NamedTuple):
    """What the gateway knows of an event before its payload is read."""

    origin: str = ""
    request_id: str = ""
    received_at: datetime = EPOCH


class Mapped(Protocol):
    """What a `Table` and a `Switch` have in common."""

    def find(self, payload: Any) -> Iterator[Found]:
        """Yield mapped values and leftovers, once per event."""

    def read(self, payload: Any, stamp: Stamp = ...) -> list[Event]:
        """Return the events in a decoded payload."""

    def table_for(self, event: Event) -> "Table | None":
        """Return the table that writes *event*, if there is one."""

    def flat(self) -> Iterator[Row]:
        """Yield every row, nested ones with their full paths."""

    def kinds(self) -> Iterator[Kind]:
        """Yield the kinds of events that it knows."""


class Table:
    """The rows of one payload, and of the list of events inside it if it carries one.

    Args:
        wire: the TypedDict of the payload.
        rows: its fields.
        says: what an event of this payload is: a type (``"identify"``, ``"track"``), or the
            name of a track event (``"Product Viewed"``).
        into: the struct that it becomes.
        each: the key of a list of events inside, and what translates one of them. What the
            payload says around the list is true of each.
        apart: an event about several products is several events about one.
        strict: an optional field of the wrong type refuses the payload; otherwise it is kept
            among the leftovers, verbatim.

    Raises:
        MappingError: a row disagrees with the types.
    """

    def __init__(  # noqa: PLR0913 - each is one independent fact about the payload
        self,
        wire: type,
        rows: Sequence[Row],
        *,
        says: str = "track",
        into: type = Event,
        each: "tuple[str, Mapped] | None" = None,
        apart: bool = False,
        strict: bool = False,
    ) -> None:
        self.rows = tuple(rows)
        self.wire = wire
        self.into = into
        self.each = each
        self.apart = apart
        self.strict = strict
        self.says = says
        kind = says in EVENT_TYPES
        self.fixed = {"type": says} if kind else {"type": "track", "name": says}
        steps = [Step(row, wire, into) for row in self.rows]
        self._steps = [step for step in steps if not step.star]
        self._stars = [step for step in steps if step.star]
        self._single = any(step.single for step in steps)
        self._trie = trie(steps)
        self._said: dict[Table | None, tuple[Row, ...]] = {}
        self._order = needed(into, (step.group for step in steps))
        self._required = [step for step in steps if step.row.required]
        self._said_extra = frozenset(s.field for s in self._steps if s.group == "extra")
        self._claimed = {
            star.row.event: frozenset(s.field for s in self._steps if s.group == star.row.event)
            for star in self._stars
        }

    def read(self, payload: Any, stamp: Stamp = Stamp()) -> list[Event]:  # noqa: B008 - immutable
        """Return the events in a decoded *payload*.

        Raises:
            Rejected: a required field is missing, or a value is not what the vendor takes.
        """
        if self.each is None and not self.apart:
            built: Built = {}
            rest = self._pick(payload, built)
            built.setdefault("", {}).update(self.fixed)
            return [_event(built, rest, stamp, 0, self._order)]
        order = groups(Event)
        return [
            _event(built, rest, stamp, index, order)
            for index, (built, rest) in enumerate(self.find(payload))
        ]

    def find(self, payload: Any) -> Iterator[Found]:
        """Yield mapped values and leftovers, once per event."""
        built: Built = {}
        rest = self._pick(payload, built)
        if self.each is not None:
            yield from self._find_each(self.each, built, rest)
            return
        built.setdefault("", {}).update(self.fixed)
        products = built.get("properties", {}).get("products", ())
        if self.apart and len(products) > 1:
            for product in products:
                yield _copy(built, {"properties": {"products": (product,)}}), dict(rest)
        else:
            yield built, rest

    def _find_each(self, each: "tuple[str, Mapped]", outer: Built, rest: dict[str, Any]) -> Any:
        key, items = each
        found = rest.pop(key, None)
        if type(found) is not list:
            fault = Fault.MISSING if found is None else Fault.TYPE
            raise Rejected(key, "expected an array", fault, found)
        for index, item in enumerate(found):
            try:
                for inner, left in items.find(item):
                    yield _copy(outer, inner), {**rest, key: [left]} if left else dict(rest)
            except Rejected as error:
                raise error.below(f"{key}.{index}") from error

    def build(self, payload: Any) -> Any:
        """Return *payload* as the struct that the table is for; leftovers go to its ``extra``."""
        built: Built = {}
        rest = self._pick(payload, built)
        if rest:
            built.setdefault("extra", {}).update(rest)
        return assemble(self.into, built, self._order)

    def _pick(self, payload: Any, built: Built) -> dict[str, Any]:
        """Copy the mapped values of *payload* into *built*; return what is left over."""
        if type(payload) is not dict:
            raise Rejected("$", "expected an object", Fault.TYPE, payload)
        for step in self._required:
            if step.find(payload) is None:
                raise Rejected(step.row.synonyms[0], "required", Fault.MISSING)
        return Walk(payload, built, strict=self.strict).over(payload, self._trie)

    def write(self, event: Any, *, same: bool = False) -> dict[str, Any]:
        """Return the payload that says *event*.

        Args:
            event: an `Event`, or the struct that the table is for.
            same: the event came in this vendor's format, so its leftovers go back too.

        Raises:
            Unrenderable: the event lacks a required field.
        """
        payload: dict[str, Any] = {}
        products = event.properties.products if self._single else ()
        product = products[0] if products else None
        for step in self._steps:
            if step.single:
                value = None if product is None else step.get(product)
            else:
                value = step.get(event)
            if value is None or (not value and value in EMPTY):
                step.missing()
            elif step.plain:
                payload[step.key] = value
            else:
                step.put(value, payload, same=same)
        if self.each is not None:
            key, items = self.each
            inner = items.table_for(event)
            payload[key] = [] if inner is None else [inner.write(event, same=same)]
        for star in self._stars:
            free = star.get(product if star.single else event) if product or not star.single else {}
            if free:
                star.put_star(free, payload, self._claimed[star.row.event])
        if same and self.into is not Event and not self._stars:
            left = {k: v for k, v in event.extra.items() if k not in self._said_extra}
            payload = {**left, **payload}
        return payload

    def table_for(self, event: Event) -> "Table | None":
        """Return itself if it can say what *event* is."""
        if self.each is not None:
            return self if self.each[1].table_for(event) is not None else None
        if self.fixed["type"] != event.type:
            return None
        return self if self.fixed.get("name") in {None, event.name} else None

    def kinds(self) -> Iterator[Kind]:
        """Yield the kind of its events, or those of the events inside."""
        if self.each is not None:
            yield from self.each[1].kinds()
        else:
            yield self.fixed["type"], self.fixed.get("name")

    def said(self, event: Event) -> Sequence[Row]:
        """Return the rows that write *event*, nested ones with their full paths."""
        inner = None if self.each is None else self.each[1].table_for(event)
        found = self._said.get(inner)
        if found is None:
            found = tuple(self._own())
            if self.each is not None and inner is not None:
                found += tuple(within(f"{self.each[0]}[]", "", inner.said(event)))
            self._said[inner] = found
        return found

    def flat(self) -> Iterator[Row]:
        """Yield every row, nested ones with their full paths."""
        yield from self._own()
        if self.each is not None:
            yield from within(f"{self.each[0]}[]", "", self.each[1].flat())

    def _own(self) -> Iterator[Row]:
        for row in self.rows:
            yield row
            if isinstance(row.codec, Nested):
                mark = "[]" if row.codec.many else ""
                paths = "|".join(path + mark for path in row.synonyms)
                yield from (
                    replace(below, wire="|".join(_under(paths, below)))
                    for below in within("", row.event + mark, row.codec.table.flat())
                )


def _event(
    built: Built, rest: dict[str, Any], stamp: Stamp, index: int, order: Sequence[Group]
) -> Event:
    top = built.setdefault("", {})
    top["origin"], request_id, top["received_at"] = stamp
    top["id"] = f"{request_id}-{index}"
    if rest:
        top["extra"] = rest
    event: Event = assemble(Event, built, order)
    return event


def _under(paths: str, below: Row) -> Iterator[str]:
    for outer in paths.split("|"):
        for inner in below.synonyms:
            yield f"{outer}.{inner}"


def _copy(outer: Built, inner: Built) -> Built:
    merged = {group: dict(values) for group, values in outer.items()}
    for group, values in inner.items():
        merged.setdefault(group, {}).update(values)
    return merged
