"""A row of a table: one field, or a value with a table of its own."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gateway.errors import Fault, Rejected
from gateway.json_text import LongInteger, LongNumber
from gateway.mapping.codecs import AS_IS, Codec

NO_FIELD = ""
"""The event side of a row that is not passed on, such as a credential."""


@dataclass(frozen=True, slots=True)
class Row:
    """One field, as the vendor spells it and as the event does.

    Attributes:
        wire: dotted path in the vendor's payload. ``"sid|seance"`` lists synonyms: the first
            present is read, the first named is written. ``"properties.*"`` means whatever no
            other row of the table claims there.
        event: dotted path in the event. ``"properties.products[0].price"`` is the only
            product of an event about one; ``"traits.extra.city"`` is a key of a mapping.
        codec: how the value changes shape.
        required: without it the payload is refused, and the event cannot be written.
        note: what a reader of the generated documentation should know.
        shared: it is one of `gateway.plugin.spec`'s, of which the kit asks a vendor for no sample.
    """

    wire: str
    event: str
    codec: Codec = AS_IS
    required: bool = False
    note: str = ""
    shared: bool = False

    @property
    def synonyms(self) -> list[str]:
        """Return the paths of ``wire``, the one that is written first."""
        return self.wire.split("|")


def prefixed(wire: str, event: str, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield *rows* as they read from one level up, on both sides."""
    for row in rows:
        yield replace(
            row,
            wire="|".join(_join(wire, path) for path in row.synonyms),
            event=_join(event, row.event) if row.event else NO_FIELD,
        )


def _join(above: str, below: str) -> str:
    return f"{above}.{below}" if above else below


BARE = frozenset({str, int, float, LongInteger, LongNumber})
"""Types of the values that may stand in an array for an object of one key."""


class NestedTable(Protocol):
    """A table, as far as a codec uses it for the values inside another."""

    into: type

    def build(self, payload: dict[str, Any]) -> Any:
        """Return the struct that *payload* says."""

    def write(self, value: Any, *, same: bool) -> Any:
        """Return what says *value*."""

    def flat(self) -> "Iterator[Row]":
        """Yield every row, those of tables within too."""


@dataclass(frozen=True, slots=True)
class NestedCodec(Codec):
    """A value with a table of its own; `one` and `many` make it."""

    table: NestedTable = None  # type: ignore[assignment]  # a field after those with defaults
    many: bool = False
    bare: str = ""

    def fits(self, value: Any) -> bool:
        """Tell whether an item of an array can be read; another array is somebody's own."""
        return not self.many or not value or any(map(self._readable, value))

    def _readable(self, item: Any) -> bool:
        return type(item) is dict or (bool(self.bare) and type(item) in BARE)

    def read(self, value: Any, place: str) -> Any:
        """Return the struct, or the tuple of structs, that *value* says.

        An item of an array that is none of these, such as a null, costs itself alone.

        Raises:
            Rejected: as the table does, with the path from *place* on.
        """
        if not self.many:
            try:
                return self.table.build(value)
            except Rejected as error:
                raise error.below(place) from error
        members = []
        for index, item in enumerate(value):
            if type(item) is not dict and not self._readable(item):
                continue
            wrapped = {self.bare: item} if self.bare and type(item) is not dict else item
            try:
                members.append(self.table.build(wrapped))
            except Rejected as error:
                raise error.below(f"{place}.{index}") from error
        if value and not members:
            raise Rejected(f"{place}.0", "expected an object", Fault.TYPE, value[0])
        return tuple(members)

    def write(self, value: Any, *, same: bool) -> Any:
        """Return *value* as the vendor spells it."""
        if self.many:
            return [self.table.write(member, same=same) for member in value]
        member = value[0] if isinstance(value, tuple) else value
        return self.table.write(member, same=same)

    def gives_class(self, target: Any) -> type:
        """Return the class that `read` gives, for the check against *target*."""
        return tuple if self.many else self.table.into if isinstance(target, type) else dict


def nested_object(table: NestedTable) -> NestedCodec:
    """Translate an object by *table* into a struct."""
    return NestedCodec("object", _unused, _unused, (), table)


def nested_list(table: NestedTable, *, bare: str = "") -> NestedCodec:
    """Translate each item of an array by *table* into a tuple of structs.

    A bare value ``x`` in the array means ``{bare: x}``, where *bare* is given.
    """
    return NestedCodec("array", _unused, _unused, (), table, many=True, bare=bare)


def _unused(_: Any) -> Any:
    raise Rejected("$", "must be an object, or an array of them", Fault.TYPE)
