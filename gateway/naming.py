"""Naming conventions for events that a destination has no word of its own for."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from gateway.errors import PluginError

Naming: TypeAlias = Literal["as-is", "snake_case", "kebab-case", "camelCase", "Title Case"]

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W_A-Z]+|\d+", re.UNICODE)


def words(name: str) -> list[str]:
    """Return the words of *name*, however they are joined: ``"myEvent_2"`` is my, Event, 2."""
    return _WORDS.findall(name) or [name]


def _snake(name: str) -> str:
    return "_".join(words(name)).lower()


def _kebab(name: str) -> str:
    return "-".join(words(name)).lower()


def _camel(name: str) -> str:
    first, *rest = words(name)
    return first.lower() + "".join(word.capitalize() for word in rest)


def _title(name: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in words(name))


CONVENTIONS: Mapping[Naming, Callable[[str], str]] = {
    "as-is": lambda name: name,
    "snake_case": _snake,
    "kebab-case": _kebab,
    "camelCase": _camel,
    "Title Case": _title,
}


def by_convention(name: str, vendor: str, config: Any) -> str:
    """Return *name* by the convention that a destination's *config* asks for.

    Raises:
        PluginError: the *vendor*'s settings have none.
    """
    try:
        naming: Naming = config.naming
    except AttributeError as error:
        what = "its Config has no naming; derive it from FreeFormSettings, or do not call named()"
        raise PluginError(f"{vendor}: {what}") from error
    return CONVENTIONS[naming](name)
