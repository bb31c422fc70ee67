"""What the functions call that are generated for values of the configuration."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.conditions.expression import Computation, Computed
from gateway.errors import Unrenderable

ALL_MEMBERS = "*"
"""The key whose expression gives all members of a table, beside which other keys may stand."""
MOST_MEMBERS = {1: 1000, 2: 100}
"""The most members of a list in which another is looked through, and of that other one."""


def _exists(results: Sequence[Any]) -> bool | None:
    return True if True in results else None if None in results else False


def _all(results: Sequence[Any]) -> bool | None:
    return False if False in results else None if None in results else True


def _exists_one(results: Sequence[Any]) -> bool | None:
    return None if None in results else results.count(True) == 1


QUANTIFIERS: Mapping[str, Callable[[Sequence[Any]], bool | None]] = {
    "exists": _exists, "all": _all, "exists_one": _exists_one,
}  # fmt: skip
"""What the results of a condition for each member come to; None stands for a missing value."""


def decide(text: str, quantifier: Callable[..., bool | None], results: list[Any]) -> bool | None:
    """Return what the *results* of a condition come to; they must be true, false or missing."""
    if any(result not in (True, False, None) or type(result) is float for result in results):
        raise Unrenderable(f"cannot compute {text}: its condition is neither true nor false")
    return quantifier(results)


def check_length(text: str, most: int, members: Any) -> None:
    """Raise `Unrenderable` if a list has more than *most* members."""
    if members is not None and len(members) > most:
        what = f"a list of {len(members)} members is too long here; at most {most} are allowed"
        raise Unrenderable(f"cannot compute {text}: {what}")


def join_lists(one: Any, other: Any) -> list[Any]:
    """Return the members of both lists."""
    if not (isinstance(one, list | tuple) and isinstance(other, list | tuple)):
        raise TypeError("only a list can be added to a list")
    return [*one, *other]


def applied(function: Callable[..., Any], text: str) -> Callable[..., Any]:
    """Return *function* for values that may be missing, or of another type than it takes."""

    def apply(*values: Any) -> Any:
        try:
            return None if None in values else function(*values)
        except (TypeError, ValueError, OverflowError, MemoryError) as error:
            raise Unrenderable(f"cannot compute {text}: {error}") from error

    return apply


def checked(computation: Computation, text: str) -> Callable[..., Any]:
    """Return a function with the value of *computation*, which raises where it fails."""

    def compute(*values: Any) -> Any:
        found: Computed = computation(*values)
        if found.error:
            raise Unrenderable(f"cannot compute {text}: {found.error}")
        return found.value

    return compute


def member(value: Any, name: str) -> Any:
    """Return a member of a table; None if it is missing, or *value* is no table."""
    return value.get(name) if isinstance(value, Mapping) else None


def item(value: Any, index: int) -> Any:
    """Return a member of a list; None if it is missing, or *value* is no list."""
    return value[index] if isinstance(value, tuple | list) and 0 <= index < len(value) else None


def members_of(value: Any) -> Any:
    """Return the members of a list, or the keys of a table; None of anything else."""
    if isinstance(value, tuple | list):
        return value
    return list(value) if isinstance(value, Mapping) else None


def copied(value: Any) -> dict[str, Any]:
    """Return a copy of a table, to which keys are added; it is empty for a missing one."""
    if value is not None and not isinstance(value, Mapping):
        raise Unrenderable(f'"{ALL_MEMBERS}" is no table')
    return dict(value or ())


def as_table(value: Any) -> Any:
    """Return a mapping of the event for a payload; None if it is empty."""
    return dict(value) if value else None
