"""A row of a table: one field, or a nested value with its own table."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from gateway.errors import Fault, Rejected
from gateway.json_text import LongInteger, LongNumber
from gateway.mapping.codecs import AS_IS, Codec

NO_FIELD = ""
"""The event path of a row without a field in the event, such as a key."""


@dataclass(frozen=True, slots=True)
class Row:
    """One field: its path in the vendor's payload and in the event.

    Attributes:
        wire: dotted path in the vendor's payload. ``"sid|seance"`` lists synonyms: the first
            present one is read, the first one is written. ``"properties.*"`` means all keys that no
            other row of the table has.
        event: dotted path in the event. ``"properties.products[0].price"`` is a field of the only
            product; ``"traits.extra.city"`` is a key of a mapping.
        codec: the conversion of the value.
        required: whether a payload without the field is refused, and an event without it cannot be
            written.
        note: a remark for the generated documentation.
        shared: whether the row is from `gateway.plugin.spec`; the kit then requires no sample.
    """

    wire: str
    event: str
    codec: Codec = AS_IS
    required: bool = False
    note: str = ""
    shared: bool = False

    @property
    def synonyms(self) -> list[str]:
        """Return the paths of ``wire``; the first one is written."""
        return self.wire.split("|")


def prefixed(wire: str, event: str, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield *rows* with the prefixes *wire* and *event* before their paths."""
    for row in rows:
        yield replace(
            row,
            wire="|".join(_join(wire, path) for path in row.synonyms),
            event=_join(event, row.event) if row.event else NO_FIELD,
        )


def _join(above: str, below: str) -> str:
    return f"{above}.{below}" if above else below


BARE = frozenset({str, int, float, LongInteger, LongNumber})
"""Types of values that may replace an object with one key in an array."""


Writer: TypeAlias = Callable[[Any, bool], dict[str, Any]]
"""Returns the payload of an event, or of the struct of the table. The flag says whether the event
came in the same vendor's format."""


class NestedTable(Protocol):
    """A table inside a payload, as the table around it uses it."""

    into: type

    @property
    def writer(self) -> Writer:
        """Return the function that writes the struct of the table."""

    @property
    def build(self) -> Callable[[Any], Any]:
        """Return the function that reads a payload as the struct of the table."""

    def flat(self) -> "Iterator[Row]":
        """Yield every row, including those of nested tables."""


@dataclass(frozen=True, slots=True)
class NestedCodec(Codec):
    """A value with its own table; made by `nested_object` and `nested_list`."""

    table: NestedTable = None  # type: ignore[assignment]  # a field after those with defaults
    many: bool = False
    bare: str = ""

    def fits(self, value: Any) -> bool:
        """Return whether any item of an array can be read; otherwise the array is unmapped."""
        if not self.many or not value or type(value[0]) is dict:
            return True
        return any(map(self._readable, value))

    def _readable(self, item: Any) -> bool:
        return type(item) is dict or (bool(self.bare) and type(item) in BARE)

    def read(self, value: Any, place: str) -> Any:
        """Return the struct, or tuple of structs, of *value*.

        Items of an array that are not objects, such as null, are skipped.

        Raises:
            Rejected: the table rejects a value; the path begins with *place*.
        """
        if not self.many:
            try:
                return self.table.build(value)
            except Rejected as error:
                raise error.below(place) from error
        members, build = [], self.table.build
        for index, item in enumerate(value):
            if type(item) is dict:
                wrapped = item
            elif self._readable(item):
                wrapped = {self.bare: item}
            else:
                continue
            try:
                members.append(build(wrapped))
            except Rejected as error:
                raise error.below(f"{place}.{index}") from error
        if value and not members:
            raise Rejected(f"{place}.0", "expected an object", Fault.TYPE, value[0])
        return tuple(members)

    def gives_class(self, target: Any) -> type:
        """Return the class that `read` returns, for the check against *target*."""
        return tuple if self.many else self.table.into if isinstance(target, type) else dict


def nested_object(table: NestedTable) -> NestedCodec:
    """Return a codec that translates an object by *table* into a struct."""
    return NestedCodec("object", _unused, _unused, table=table)


def nested_list(table: NestedTable, *, bare: str = "") -> NestedCodec:
    """Return a codec that translates the items of an array by *table* into a tuple of structs.

    With *bare*, a plain value ``x`` in the array means ``{bare: x}``.
    """
    return NestedCodec("array", _unused, _unused, table=table, many=True, bare=bare)


def _unused(_: Any) -> Any:
    raise Rejected("$", "must be an object, or an array of them", Fault.TYPE)
