"""Which fields of the event the value of a template has, and where."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from gateway.conditions.export import exported_fields
from gateway.event import Event
from gateway.event_fields import find_field, is_struct, make_reader


class FieldUse(NamedTuple):
    """A field of the event that a template has in its value."""

    wire: str
    """The path in the value, such as ``items[].price``; ``x.*`` for free keys."""
    event: str
    """The path in the event, such as ``properties.products[].price``."""
    exact: bool
    """Whether it is copied; otherwise something is computed with it."""
    needs: tuple[tuple[str, ...], ...] = ()
    """The names of the fields without any of which nothing is computed."""

    def missing(self, event: Event) -> str:
        """Return the first needed field that *event* lacks; empty if it has all."""
        lacking = (names for names in self.needs if _reader(names)(event) in (None, ()))
        names = next(lacking, ())
        return ".".join(("event", *names)) if names else ""


@lru_cache(maxsize=1024)
def _reader(names: tuple[str, ...]) -> Callable[[Event], Any]:
    return make_reader(find_field(names))


def struct_fields(struct: type) -> frozenset[str]:
    """Return the names of the fields of a struct class."""
    return frozenset(get_type_hints(struct))


def fields_of(struct: Any, wire: str, path: str) -> Iterator[FieldUse]:
    """Yield the uses of all fields of a struct class whose value is in the payload as a whole."""
    if "extra" in struct_fields(struct) and struct is not Event:
        yield FieldUse(f"{wire}.*".lstrip("."), f"{path}.extra".lstrip("."), exact=True)
    for name, here in exported_fields(struct):
        below, inner = f"{wire}.{name}".lstrip("."), f"{path}.{name}".lstrip(".")
        if name == "consent":
            yield FieldUse(f"{below}.*", inner, exact=True)
        elif get_origin(here) is tuple:
            yield from fields_of(get_args(here)[0], f"{below}[]", f"{inner}[]")
        elif is_struct(here):
            yield from fields_of(here, below, inner)
        else:
            yield FieldUse(below, inner, exact=True)
