"""A table: the rows of one payload, read in both directions; a switch between tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeAlias

from msgspec import structs

from gateway.errors import Fault, Rejected
from gateway.event import EPOCH, EVENT_TYPES, Event
from gateway.json_text import quoted
from gateway.mapping.codecs import Codec
from gateway.mapping.compiled_reader import (
    ALONE,
    Around,
    Reader,
    compile_around_reader,
    compile_event_reader,
    compile_struct_reader,
)
from gateway.mapping.compiled_rows import check_products, compile_row
from gateway.mapping.compiled_writer import WriterPlan, compile_writer
from gateway.mapping.row import NestedCodec, Row, Writer, prefixed

Kind: TypeAlias = tuple[str, str | None]
"""Type and name of events; None for any name."""


class Stamp(NamedTuple):
    """Values that the gateway adds to an event: vendor, request id and arrival."""

    origin: str = ""
    request_id: str = ""
    received_at: datetime = EPOCH


class EventMapping(Protocol):
    """The common interface of `Table` and `Switch`."""

    def read(
        self, payload: Any, stamp: Stamp = ..., first: int = ..., around: Around = ...
    ) -> list[Event]:
        """Return the events in a decoded payload."""

    def table_for(self, event: Event) -> "Table | None":
        """Return the table that writes *event*; None if there is none."""

    def flat(self) -> Iterator[Row]:
        """Yield every row, nested ones with their full paths."""

    def kinds(self) -> Iterator[Kind]:
        """Yield the kinds of events that it reads."""


class Table:
    """The rows of one payload, and of its list of events if it has one.

    Args:
        wire: the TypedDict of the payload.
        rows: its fields.
        event: type of the events (``"identify"``, ``"track"``), or name of the track events
            (``"Product Viewed"``).
        into: the struct that a payload becomes.
        items: key of a list of events in the payload, and the mapping of one of them. Fields around
            the list apply to each event. An event is written as a list of one.
        split_products: whether an event about several products becomes several events about one.
        strict: whether an optional field of the wrong type refuses the payload; otherwise it stays
            unmapped, unchanged.

    Raises:
        MappingError: a row does not match the types.
    """

    def __init__(  # noqa: PLR0913 - independent properties of the payload
        self,
        wire: type,
        rows: Sequence[Row],
        *,
        event: str = "track",
        into: type = Event,
        items: "tuple[str, EventMapping] | None" = None,
        split_products: bool = False,
        strict: bool = False,
    ) -> None:
        self.rows = tuple(rows)
        self.wire = wire
        self.into = into
        self.items = items
        self.split_products = split_products
        self.strict = strict
        self.event = event
        kind = event in EVENT_TYPES
        self.fixed = {"type": event} if kind else {"type": "track", "name": event}
        steps = [compile_row(row, wire, into) for row in self.rows]
        check_products(self.rows)
        self._steps = [step for step in steps if not step.star]
        self._stars = [step for step in steps if step.star]
        self._all = steps
        self.forget_compiled()
        self._said: dict[Table | None, tuple[Row, ...]] = {}
        self._claimed = {
            star.row.event: frozenset(s.field for s in self._steps if s.group == star.row.event)
            for star in self._stars
        }

    def forget_compiled(self) -> None:
        """Generate readers and writer anew when they are needed; tables in this one may differ."""
        self._readers: dict[tuple[str, ...], Reader] = {}
        self._around_readers: dict[tuple[str, ...], tuple[Reader, tuple[str, ...]]] = {}
        vars(self).pop("writer", None)

    def read(
        self,
        payload: Any,
        stamp: Stamp = Stamp(),  # noqa: B008 - immutable
        first: int = 0,
        around: Around = ALONE,
    ) -> list[Event]:
        """Return the events in a decoded *payload*.

        Args:
            payload: any JSON value.
            stamp: what the gateway adds.
            first: index of the first event in the request.
            around: values of the fields around the payload, if it is a member of a list.

        Raises:
            Rejected: a required field is missing, or the vendor does not accept a value.
        """
        if self.items is not None:
            return self._read_items(self.items, payload, stamp, first, around)
        read = self._readers.get(around.fields)
        if read is None:
            read = self._readers[around.fields] = compile_event_reader(
                self.wire.__name__, self._all, around.fields, self.fixed, strict=self.strict
            )
        event: Event = read(payload, stamp, first, around.values)
        products = event.properties.products
        if not self.split_products or len(products) < 2:  # noqa: PLR2004 - several
            return [event]
        return [
            structs.replace(
                event,
                id=f"{stamp.request_id}-{first + number}",
                properties=structs.replace(event.properties, products=(product,)),
            )
            for number, product in enumerate(products)
        ]

    def _read_items(
        self,
        items: "tuple[str, EventMapping]",
        payload: Any,
        stamp: Stamp,
        first: int,
        around: Around,
    ) -> list[Event]:
        compiled = self._around_readers.get(around.fields)
        if compiled is None:
            compiled = self._around_readers[around.fields] = compile_around_reader(
                self.wire.__name__, self._all, around.fields, strict=self.strict
            )
        read, fields = compiled
        values, rest = read(payload, around.values)
        key, inner = items
        members = rest.pop(key, None)
        if type(members) is not list:
            fault = Fault.MISSING if members is None else Fault.TYPE
            raise Rejected(key, "expected an array", fault, members)
        here, events = Around(fields, values), list[Event]()
        for index, member in enumerate(members):
            try:
                found = inner.read(member, stamp, first + len(events), here)
            except Rejected as error:
                raise error.below(f"{key}.{index}") from error
            events += [_with_leftovers(event, rest, key) for event in found]
        return events

    @cached_property
    def build(self) -> Reader:
        """Return the function that reads a payload; it is generated when it is first asked for.

        It returns the struct of the table, with unmapped fields in its ``extra``.
        """
        return compile_struct_reader(self.wire.__name__, self._all, self.into, strict=self.strict)

    def write(self, event: Any, *, same: bool = False) -> dict[str, Any]:
        """Return the payload of *event*.

        Args:
            event: an `Event`, or the struct of the table.
            same: whether the event came in this vendor's format; then its unmapped fields are
                restored.

        Raises:
            Unrenderable: the event lacks a required field.
        """
        return self.writer(event, same)

    @cached_property
    def writer(self) -> Writer:
        """Return the function behind `write`, which is generated when it is first asked for."""
        return compile_writer(self.plan)

    @property
    def plan(self) -> WriterPlan:
        """Return what a payload of this table consists of."""
        items = None if self.items is None else (self.items[0], self.items[1].table_for)
        return WriterPlan(
            self.wire.__name__,
            self.into,
            self._steps,
            items,
            [(star, self._claimed[star.row.event]) for star in self._stars],
        )

    def table_for(self, event: Event) -> "Table | None":
        """Return this table if it can write *event*, else None."""
        if self.items is not None:
            return self if self.items[1].table_for(event) is not None else None
        if self.fixed["type"] != event.type:
            return None
        return self if self.fixed.get("name") in {None, event.name} else None

    def kinds(self) -> Iterator[Kind]:
        """Yield the kind of its events, or the kinds of the events in its list."""
        if self.items is not None:
            yield from self.items[1].kinds()
        else:
            yield self.fixed["type"], self.fixed.get("name")

    def said(self, event: Event) -> Sequence[Row]:
        """Return the rows that write *event*, nested ones with their full paths."""
        inner = None if self.items is None else self.items[1].table_for(event)
        found = self._said.get(inner)
        if found is None:
            found = tuple(self._own())
            if self.items is not None and inner is not None:
                found += tuple(prefixed(f"{self.items[0]}[]", "", inner.said(event)))
            self._said[inner] = found
        return found

    def flat(self) -> Iterator[Row]:
        """Yield every row, nested ones with their full paths."""
        yield from self._own()
        if self.items is not None:
            yield from prefixed(f"{self.items[0]}[]", "", self.items[1].flat())

    def _own(self) -> Iterator[Row]:
        for row in self.rows:
            yield row
            if isinstance(row.codec, NestedCodec):
                mark = "[]" if row.codec.many else ""
                paths = "|".join(path + mark for path in row.synonyms)
                yield from (
                    replace(below, wire="|".join(_under(paths, below)))
                    for below in prefixed("", row.event + mark, row.codec.table.flat())
                )


def _with_leftovers(event: Event, rest: Mapping[str, Any], key: str) -> Event:
    """Return a member of the list *key* with the unmapped fields around it."""
    if not rest and not event.extra:
        return event
    own = {key: [event.extra]} if event.extra else {}
    return structs.replace(event, extra={**rest, **own})


def _under(paths: str, below: Row) -> Iterator[str]:
    for outer in paths.split("|"):
        for inner in below.synonyms:
            yield f"{outer}.{inner}"


class Switch:
    """Several tables, chosen by one field of the payload.

    Args:
        field: the payload's key with the vendor's name of the event.
        tables: tables by the vendor's names; several names may have the same table.
        vocabulary: translates the names of tables for any ``"track"`` event.
        otherwise: the table of all other names; without it they are rejected.
        pick: returns the name for a payload, if one field is not enough.
    """

    def __init__(
        self,
        field: str,
        tables: Mapping[str, Table],
        *,
        vocabulary: Codec | None = None,
        otherwise: Table | None = None,
        pick: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self.field = field
        self.tables = tables
        self.otherwise = otherwise
        self.pick = pick
        self._writers: dict[str, Table] = {}
        for word, table in tables.items():
            named = vocabulary is not None and table.event == "track"
            event = vocabulary.decode(word) if vocabulary and named else table.event
            self._writers.setdefault(event, table)

    def read(
        self,
        payload: Any,
        stamp: Stamp = Stamp(),  # noqa: B008 - immutable
        first: int = 0,
        around: Around = ALONE,
    ) -> list[Event]:
        """Return the events in a decoded *payload*; see `Table.read`.

        Raises:
            Rejected: the name is missing or unknown, or the table rejects the payload.
        """
        return self._table(payload).read(payload, stamp, first, around)

    def table_for(self, event: Event) -> Table | None:
        """Return the table that writes *event*; None if there is none."""
        found = self._writers.get((event.name or "") if event.type == "track" else event.type)
        table = None if found is None else found.table_for(event)
        if table is None and self.otherwise is not None:
            return self.otherwise.table_for(event)
        return table

    def kinds(self) -> Iterator[Kind]:
        """Yield the kinds of events that it reads, each once."""
        for says in self._writers:
            yield (says, None) if says in EVENT_TYPES else ("track", says)
        if self.otherwise is not None:
            yield from self.otherwise.kinds()

    def flat(self) -> Iterator[Row]:
        """Yield every row once."""
        tables = dict.fromkeys(self.tables.values())
        if self.otherwise is not None:
            tables[self.otherwise] = None
        yield from dict.fromkeys(row for table in tables for row in table.flat())

    def _table(self, payload: Any) -> Table:
        if type(payload) is not dict:
            raise Rejected("$", "expected an object", Fault.TYPE, payload)
        word = self.pick(payload) if self.pick else payload.get(self.field)
        if word is None:
            raise Rejected(self.field, "required", Fault.MISSING)
        table = self.tables.get(word) if type(word) is str else None
        if table is None:
            table = self.otherwise
            if table is None:
                raise Rejected(self.field, f"unknown: {quoted(word)}", Fault.VALUE, word)
        return table
