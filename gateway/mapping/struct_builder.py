"""Split a struct into groups of fields, and build it from flat values."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

from gateway.errors import MappingError
from gateway.event_fields import bare, is_mapping, is_struct

Built: TypeAlias = dict[str, dict[str, Any]]
"""Values by group and field; the struct itself is the group ``""``."""


class StructGroup(NamedTuple):
    """A struct or mapping inside a struct."""

    path: str
    above: str
    field: str
    make: Any
    """The class of the struct; None for a mapping."""
    indexed: bool
    """Whether it is the only member of a tuple."""


@cache
def groups(into: type) -> tuple[StructGroup, ...]:
    """Return the groups of *into*, innermost first."""
    return tuple(_groups(into, ""))


def _groups(into: type, above: str) -> list[StructGroup]:
    found = []
    for field, hint in get_type_hints(into).items():
        here = bare(hint)
        path = f"{above}.{field}" if above else field
        if get_origin(here) is tuple:
            member = get_args(here)[0]
            path = f"{path}[0]"
            found += [*_groups(member, path), StructGroup(path, above, field, member, indexed=True)]
        elif is_struct(here):
            found += [*_groups(here, path), StructGroup(path, above, field, here, indexed=False)]
        elif is_mapping(here):
            found.append(StructGroup(path, above, field, None, indexed=False))
    return found


def split(into: type, path: str) -> tuple[str, str]:
    """Return the group of *path*, and the field in it.

    Raises:
        MappingError: the path has more than one key below a mapping.
    """
    known = {group.path for group in groups(into)} | {""}
    group, _, field = path.rpartition(".")
    if group not in known:
        raise MappingError(f"{path!r}: only one key below a mapping is allowed")
    return group, field


def needed(into: type, held: Iterable[str]) -> tuple[StructGroup, ...]:
    """Return the groups of *into* that are in *held*, their parents, and its free keys."""
    wanted = {"extra"}
    for path in held:
        here = path
        while here:
            wanted.add(here)
            here = here.rpartition(".")[0]
    return tuple(group for group in groups(into) if group.path in wanted)


def build_struct(into: type, built: Built, order: Sequence[StructGroup]) -> Any:
    """Build *into* from *built*, which is changed.

    Args:
        into: class of the struct.
        built: values by group.
        order: its groups, innermost first; groups that are never in *built* may be missing.
    """
    for path, above, field, make, indexed in order:
        values = built.get(path)
        if values:
            value: Any = values if make is None else make(**values)
            holder = built.get(above)
            if holder is None:
                holder = built[above] = {}
            if indexed:
                holder.setdefault(field, (value,))
            else:
                holder[field] = value
    return into(**built.get("", {}))
