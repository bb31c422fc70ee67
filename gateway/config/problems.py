"""What is wrong with a configuration, collected as sentences that say where and what to do."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.config.lines import Lines
from gateway.errors import ConfigError

HIDDEN = "***"
SHORTEST = 4
"""Shorter secrets are not searched for: replacing them would garble every sentence."""

_PLAIN = {
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": 'must be a list; write ["..."]',
    "tuple_type": 'must be a list; write ["..."]',
    "dict_type": "must be a table",
    "path_type": "must be a path; put it in quotes",
}
"""Pydantic's findings in the words of a configuration file."""
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


class Report:
    """The problems and warnings of one file.

    Args:
        file: the file's name, as it was given.
        text: what it holds.
    """

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._lines = Lines(text)
        self._problems: list[_Note] = []
        self._warnings: list[_Note] = []
        self._settled: set[tuple[str, str]] = set()
        self._secrets: set[str] = set()

    def hide(self, secret: str) -> None:
        """Keep *secret* out of every sentence."""
        if len(secret) >= SHORTEST:
            self._secrets.add(secret)

    def problem(self, table: str, key: str, what: str, *, only: bool = False) -> None:
        """Note a problem with *key*, or with the whole of *table* where there is no key.

        Args:
            table: as the file would write its header, ``destinations.crm``; ``routes.1`` is
                the first of the routes.
            key: the key in it.
            what: what is wrong; what to do.
            only: whatever else is wrong with the same key follows from this.
        """
        if (table, key) in self._settled:
            return
        if only:
            self._settled.add((table, key))
        self._note(self._problems, table, key, what)

    def warning(self, table: str, key: str, what: str) -> None:
        """Note what is suspicious and allowed."""
        self._note(self._warnings, table, key, what)

    def _note(self, notes: list["_Note"], table: str, key: str, what: str) -> None:
        line = self._lines.find(table, key)
        file = f"{self._file}:{line}" if line else self._file
        kind, _, number = table.partition(".")
        header = f"[[routes]] #{number}" if kind == "routes" and number else f"[{table}]"
        place = f"{header} {key}".rstrip() if table else key
        notes.append(_Note(line or 0, f"{file}: {place}", what))

    def findings(self, table: str, keys: Mapping[str, FieldInfo], error: ValidationError) -> None:
        """Note everything that pydantic found in *table*, which may have these *keys*."""
        found = error.errors(include_url=False)
        meant = {_closest(_key(one), keys) for one in found if one["type"] == "extra_forbidden"}
        for one in found:
            key = _key(one)
            if one["type"] == "missing" and key in meant:
                continue
            item = next((f"item {step + 1} " for step in one["loc"][1:] if type(step) is int), "")
            self.problem(table, key, item + _sentence(key, keys, one))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings, in the order of the file."""
        return tuple(self._shown(self._warnings))

    def stop(self) -> None:
        """Raise `ConfigError` if there is any problem."""
        if self._problems:
            raise ConfigError(self._shown(self._problems))

    def _shown(self, notes: list["_Note"]) -> list[str]:
        return [
            f"{note.place}: {self._clean(note.what)}"
            for note in sorted(notes, key=lambda note: note.line)
        ]

    def _clean(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text


class _Note(NamedTuple):
    line: int
    place: str
    what: str


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint at the known word that *word* most resembles, or at all of them."""
    words = sorted(known)
    close = _closest(word, words)
    if close:
        return f"did you mean {close}?"
    return f"known: {', '.join(words)}" if words else "there is none"


def _closest(word: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1)), None)


def _key(found: ErrorDetails) -> str:
    return str(found["loc"][0]) if found["loc"] else ""


def _sentence(key: str, keys: Mapping[str, FieldInfo], found: ErrorDetails) -> str:
    kind, context = found["type"], found.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(key, keys)}"
    if kind == "missing":
        return f"missing; add it: {_purpose(keys.get(key))}"
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {context[name]:g}"
    if kind == "literal_error":
        close = _closest(str(found["input"]), re.findall("'([^']*)'", context["expected"]))
        return f"must be {context['expected']}" + (f"; did you mean {close}?" if close else "")
    message = found["msg"].removeprefix("Value error, ")
    return message.replace("Input should", "it should")


def _purpose(field: FieldInfo | None) -> str:
    described = " ".join((field.description or "").split()) if field else ""
    return described.partition(". ")[0].rstrip(".") or "it has no default"
