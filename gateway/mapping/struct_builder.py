"""Split a struct into groups of fields."""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from gateway.errors import MappingError
from gateway.event_fields import bare, is_mapping, is_struct


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
    """Return the groups of *into* that hold the paths in *held*, and the one of its free keys."""
    wanted = {"extra"}
    for path in held:
        here = path
        while here:
            wanted.add(here)
            here = here.rpartition(".")[0]
    return tuple(group for group in groups(into) if group.path in wanted)
