"""Values with a table of their own: one object, or a list of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.errors import Fault, Rejected
from gateway.json_text import LongInteger, LongNumber
from gateway.mapping.codecs import Codec

if TYPE_CHECKING:
    from gateway.mapping.table import Table


BARE = frozenset({str, int, float, LongInteger, LongNumber})
"""Types of the values that may stand in an array for an object of one key."""


@dataclass(frozen=True, slots=True)
class Nested(Codec):
    """A value with a table of its own; `one` and `many` make it."""

    table: "Table" = None  # type: ignore[assignment]  # a field after those with defaults
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


def one(table: "Table") -> Nested:
    """Translate an object by *table* into a struct."""
    return Nested("object", _unused, _unused, (), table)


def many(table: "Table", *, bare: str = "") -> Nested:
    """Translate each item of an array by *table* into a tuple of structs.

    A bare value ``x`` in the array means ``{bare: x}``, where *bare* is given.
    """
    return Nested("array", _unused, _unused, (), table, many=True, bare=bare)


def _unused(_: Any) -> Any:
    raise Rejected("$", "must be an object, or an array of them", Fault.TYPE)
