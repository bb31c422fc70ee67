"""Collect the problems of a configuration, each with its file and line."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.config.docstrings import documented_keys
from gateway.config.types import LISTS
from gateway.errors import ConfigError
from gateway.plugin.config_table import nested_model
from gateway.suggestions import did_you_mean

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w. -])+?)\s*=""")
_QUOTES = re.compile(r"[\"'\s]")


class LineIndex:
    """Finds the line of a table or key.

    A table without a header of its own is where the first table in it is. Keys in unusual notation,
    such as in inline tables, are not found.
    """

    def __init__(self, text: str) -> None:
        self._found: dict[tuple[str, str], int] = {}
        arrays: Counter[str] = Counter()
        table = ""
        for number, line in enumerate(text.splitlines(), start=1):
            header = _HEADER.fullmatch(line)
            if header:
                table = _numbered(_QUOTES.sub("", header[2]), arrays)
                if header[1] == "[[":
                    arrays[table] += 1
                    table = f"{table}.{arrays[table]}"
                self._found.setdefault((table, ""), number)
                self._found.setdefault((table.partition(".")[0], ""), number)
            elif key := _KEY.match(line):
                self._found.setdefault((table, _QUOTES.sub("", key[1])), number)

    def find(self, table: str, key: str) -> int | None:
        """Return the line of *key* in *table*, or else of the table's header, counted from 1."""
        return self.exact(table, key) or self.exact(table, "")

    def exact(self, table: str, key: str) -> int | None:
        """Return the line of *key* in *table*, or None; the key may be a table of its own."""
        key = _QUOTES.sub("", key)
        below = self._found.get((f"{table}.{key}", "")) if key else None
        return self._found.get((table, key)) or below


def _numbered(table: str, arrays: Mapping[str, int]) -> str:
    """Return a table within the last member of an array of tables, with the member's number."""
    for name, count in arrays.items():
        if "." in name and table.startswith(f"{name}."):
            return f"{name}.{count}{table[len(name) :]}"
    return table


RENAMED = {
    "again": "repeat_interval",
    "also": "additional",
    "bodies": "max_body",
    "check_every": "check_interval",
    "exactly": "exact",
    "full": "on_full",
    "gets": "expect",
    "hides": "must_not_contain",
    "keep": "retention",
    "lacks": "absent",
    "max_size": "max_bytes",
    "on": "enabled",
    "open": "allow_any_key",
    "otherwise": "fallback",
    "otlp": "otlp_url",
    "refused": "rejected",
    "remember": "retention",
    "successes_per_second": "success_rate_limit",
    "violations": "on_violation",
    "why_not": "withheld",
}
"""Keys of earlier configurations with their new names. An old key is an error."""

HIDDEN = "***"
SHORTEST = 4
"""Shorter secrets are not redacted: replacing them would make every sentence unreadable."""

_PLAIN = {
    "string_type": "must be text; put it in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": 'must be a list; write ["..."]',
    "tuple_type": 'must be a list; write ["..."]',
    "dict_type": "must be a table",
    "path_type": "must be a path; put it in quotes",
}
"""Messages for the types of pydantic's errors."""
_NUMBERS = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
}
"""Messages that an example follows."""
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


class ConfigReport:
    """The problems and warnings of a configuration, in one file or several."""

    def __init__(self) -> None:
        self._files: list[_File] = []
        self._members: dict[str, list[tuple[_File, int]]] = {}
        self._problems: list[_Note] = []
        self._warnings: list[_Note] = []
        self._settled: set[tuple[str, str]] = set()
        self.secrets: set[str] = set()
        """Texts that must not be shown: credentials, and the values of variables."""
        self._stood_in: dict[tuple[str, str], str] = {}

    def add(self, path: Path, text: str) -> None:
        """Register a file; call it before anything is reported about the file."""
        self._files.append(_File(len(self._files), path, LineIndex(text)))

    def add_members(self, kind: str, path: Path, count: int) -> None:
        """Register that the next *count* tables of a list, such as ``routes``, are in *path*."""
        file = next(file for file in self._files if file.path == path)
        members = self._members.setdefault(kind, [])
        members += [(file, number) for number in range(1, count + 1)]

    def place(self, table: str) -> str:
        """Return the file and line of a table, as "FILE:LINE"."""
        file, line, _ = self._find(table, "") or (None, None, "")
        return "" if file is None else f"{file.path}:{line}" if line else str(file.path)

    def owner(self, table: str) -> Path | None:
        """Return the file that contains *table*."""
        found = self._find(table, "")
        return found[0].path if found else None

    def _find(self, table: str, key: str) -> tuple["_File", int | None, str] | None:
        """Return the file of a key, its line, and the table's name as counted within that file."""
        kind, _, number = table.partition(".")
        if number and kind in self._members:
            file, own = self._members[kind][int(number) - 1]
            return file, file.lines.find(f"{kind}.{own}", key), f"{kind}.{own}"
        for place, wanted in _places(table, key):
            for file in self._files:
                if line := file.lines.exact(place, wanted):
                    return file, line, table
        return (self._files[0], None, table) if self._files else None

    def hide(self, secret: str) -> None:
        """Redact *secret* in every message, also where it is quoted or cut into lines."""
        quoted = repr(secret)[1:-1], repr(f'{secret}"')[1:-2]
        forms = (secret, *quoted, *secret.splitlines())
        self.secrets.update(form for form in forms if len(form) >= SHORTEST)

    def stood_in(self, table: str, key: str, variable: str) -> None:
        """Register that *variable* is not set; later problems with the key mention it."""
        self._stood_in[table, key] = variable

    def problem(self, table: str, key: str, what: str, *, only: bool = False) -> None:
        """Report a problem with *key*, or with the whole *table* if the key is empty.

        Args:
            table: the table as in its header, ``destinations.crm``; ``routes.1`` is the first
                route.
            key: the key in it.
            what: what is wrong, and what to do.
            only: do not report further problems of this key, since they follow from this one.
        """
        if (table, key) in self._settled:
            return
        if only:
            self._settled.add((table, key))
        if variable := self._stood_in.get((table, key)):
            what = f"{what}; {variable} is not set; set it, or write ${{{variable}:-default}}"
        self._note(self._problems, table, key, what)

    def warning(self, table: str, key: str, what: str) -> None:
        """Report something suspicious that is allowed."""
        self._note(self._warnings, table, key, what)

    def _note(self, notes: list["_Note"], table: str, key: str, what: str) -> None:
        found = self._find(table, key)
        order, line, where = 0, None, ""
        if found:
            file, line, table = found
            order, where = file.number, f"{file.path}:{line}" if line else str(file.path)
        kind, _, number = table.partition(".")
        above, _, last = table.rpartition(".")
        if kind in LISTS and number:
            header = f"[[{kind}]] #{number}"
        else:
            header = f"[[{above}]] #{last}" if last.isdigit() and "." in above else f"[{table}]"
        place = f"{header} {key}".rstrip() if table else key
        notes.append(_Note((order, line or 0), f"{where}: {place}", what, table or key))

    def findings(self, table: str, keys: Mapping[str, FieldInfo], error: ValidationError) -> None:
        """Report all errors that pydantic found in *table*, whose allowed keys are *keys*."""
        found = error.errors(include_url=False)
        unknown = [_key(one) for one in found if one["type"] == "extra_forbidden"]
        suggested = {_renamed(key, keys) or _closest(key, keys) for key in unknown}
        for one in found:
            key = _key(one)
            if one["type"] == "missing" and key in suggested:
                continue
            if len(one["loc"]) > 1 and (below := _below(table, keys, one["loc"])):
                self._nested(*below, one)
                continue
            item = next((f"item {step + 1} " for step in one["loc"][1:] if type(step) is int), "")
            for sentence in _sentence(key, keys, one).split("\n"):
                self.problem(table, key, item + sentence)

    def _nested(
        self,
        table: str,
        keys: Mapping[str, FieldInfo],
        loc: tuple[int | str, ...],
        found: ErrorDetails,
    ) -> None:
        """Report an error in a table of a table, at *loc* in it."""
        inner = found.copy()
        inner["loc"] = loc
        key = _key(inner)
        for sentence in _sentence(key, keys, inner).split("\n"):
            self.problem(table, key, sentence)

    def sentences(self, keys: Mapping[str, FieldInfo], error: ValidationError) -> Iterator[str]:
        """Yield the errors that pydantic found in a nested table, whose allowed keys are *keys*."""
        for one in error.errors(include_url=False):
            key = _key(one)
            sentence = _sentence(key, keys, one)
            yield f"{key}: {sentence}" if key else sentence

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings in the order of the files."""
        return tuple(self._shown(self._warnings))

    def narrow(self, table: str) -> None:
        """Drop the problems of all tables except *table*."""
        self._problems = [note for note in self._problems if note.about == table]

    def stop(self) -> None:
        """Raise ConfigError if there are problems."""
        if self._problems:
            raise ConfigError(self._shown(self._problems))

    def _shown(self, notes: list["_Note"]) -> list[str]:
        return [
            f"{note.place}: {self._clean(note.what)}"
            for note in sorted(notes, key=lambda note: note.order)
        ]

    def _clean(self, text: str) -> str:
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text


def _places(table: str, key: str) -> Iterator[tuple[str, str]]:
    """Yield where a key may be written: in its table, or in the tables around it."""
    names = key.split(".")
    for end in range(len(names), 0, -1):
        yield table, ".".join(names[:end])
    yield table, ""
    while table.count(".") > 1:
        table, _, last = table.rpartition(".")
        if not last.isdigit():
            yield table, last
        yield table, ""


class _File(NamedTuple):
    number: int
    path: Path
    lines: LineIndex


class _Note(NamedTuple):
    order: tuple[int, int]
    place: str
    what: str
    about: str


def _below(
    table: str, keys: Mapping[str, FieldInfo], loc: tuple[int | str, ...]
) -> tuple[str, Mapping[str, FieldInfo], tuple[int | str, ...]] | None:
    """Return the innermost table that *loc* leads to, its keys, and the rest of *loc*.

    None if it leads to no table in *table*.
    """
    found = None
    while loc and (field := keys.get(str(loc[0]))) is not None:
        model = nested_model(field.annotation)
        if model is None:
            break
        table, loc = f"{table}.{loc[0]}", loc[1:]
        if loc and isinstance(loc[0], int):
            table, loc = f"{table}.{loc[0] + 1}", loc[1:]
        keys = documented_keys(model)
        found = table, keys, loc
    return found


def _closest(word: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1)), None)


def _renamed(key: str, keys: Mapping[str, FieldInfo]) -> str | None:
    new = RENAMED.get(key)
    return new if new in keys else None


def _key(found: ErrorDetails) -> str:
    return str(found["loc"][0]) if found["loc"] else ""


def _sentence(key: str, keys: Mapping[str, FieldInfo], found: ErrorDetails) -> str:
    kind, context = found["type"], found.get("ctx", {})
    if kind == "extra_forbidden":
        if new := _renamed(key, keys):
            return f"renamed; write {new}"
        return f"unknown key; {did_you_mean(key, keys)}"
    if kind == "missing":
        return f"missing; add it: {_purpose(keys.get(key))}"
    if kind in _NUMBERS:
        return f"{_NUMBERS[kind]}, such as {_example(keys.get(key))}"
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


def _example(field: FieldInfo | None) -> str:
    """Return a number for *field*: its default, if that is one and does not turn it off."""
    default = field.default if field else None
    return f"{default:g}" if isinstance(default, int | float) and default else "10"


def _purpose(field: FieldInfo | None) -> str:
    described = " ".join((field.description or "").split()) if field else ""
    return described.partition(". ")[0].rstrip(".") or "it has no default"
