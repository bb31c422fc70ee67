"""Read the configuration file, and merge the files that it includes."""

import re
import tomllib
from collections.abc import Iterator
from glob import escape, glob, has_magic
from pathlib import Path
from typing import Any

from gateway.config.loader.references import ReferenceResolver
from gateway.config.loader.report import ConfigReport
from gateway.config.models import TABLES
from gateway.config.types import LISTS
from gateway.errors import ConfigError
from gateway.suggestions import did_you_mean

Raw = dict[str, Any]
"""A table as parsed from TOML."""
NAMES = frozenset({*TABLES, "steps", "include"})
"""The allowed names of top-level tables and keys."""


def text_of(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ConfigError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise ConfigError([f"{path}: {reason}; name a readable file"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text; save it as UTF-8"]) from error


_TOML_ERRORS = {
    "Illegal character '\\n'": "a text has no closing quote; add it on the same line",
    "Cannot overwrite a value": "this key occurs twice in its table; delete one of the two",
}
"""Messages for the mistakes that the parser names by their effect."""


def toml_of(path: Path, text: str) -> Raw:
    """Parse *text* as TOML.

    Raises:
        ConfigError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError([f"{path}: is nested too deeply; use fewer levels"]) from error
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        number = line[1] if line else str(text.count("\n") + 1)
        what = _TOML_ERRORS.get(what, f"{what}; see https://toml.io")
        raise ConfigError([f"{path}:{number}: is not TOML: {what}"]) from error


def tables_of(path: Path, text: str, report: ConfigReport) -> Raw:
    """Return the tables in *text*; report unknown tables and wrong types, and leave them out.

    Raises:
        ConfigError: it is not TOML.
    """
    tables: Raw = {}
    for name, value in toml_of(path, text).items():
        if name == "include":
            tables[name] = value
        elif name not in NAMES:
            what = f"unknown table; {did_you_mean(name, NAMES)}"
            report.problem(*((name, "") if isinstance(value, dict) else ("", name)), what)
        elif name in LISTS:
            if isinstance(value, list) and all(isinstance(route, dict) for route in value):
                tables[name] = value
            else:
                report.problem(name, "", f"must be a list of tables; write [[{name}]]")
        elif isinstance(value, dict):
            tables[name] = value
        else:
            report.problem("", name, f"must be a table; write [{name}]")
    return tables


SINGLE = frozenset({
    "server", "spool", "admin", "consent", "suppression", "trace", "log", "alerts",
})  # fmt: skip


class FileMerger:
    """Reads files and merges their tables.

    Included files are treated as if their text stood at the end of the including file.

    Attributes:
        raw: the merged tables.
        files: the files that were read.
        patterns: the patterns of ``include``, as paths.
    """

    def __init__(self, references: ReferenceResolver, report: ConfigReport) -> None:
        self.raw: Raw = {}
        self.files: list[Path] = []
        self.patterns: list[str] = []
        self._references = references
        self._report = report
        self._owners: dict[tuple[str, str], Path] = {}

    def read(self, path: Path) -> None:
        """Read *path* and the files that it includes.

        Raises:
            ConfigError: a file cannot be read, or is not TOML.
        """
        text = text_of(path)
        self.files.append(path)
        self._report.add(path, text)
        tables = tables_of(path, text, self._report)
        included = tables.pop("include", [])
        for name, table in tables.items():
            if name in LISTS:
                self._report.add_members(name, path, len(table))
                self.raw.setdefault(name, []).extend(table)
            else:
                self._merge(name, table, path)
        for further in self._included(included, path):
            if further.resolve() in {known.resolve() for known in self.files}:
                what = f"{further} is included twice; include each file once"
                self._report.problem("", "include", what)
            else:
                self.read(further)

    def owner(self, table: str, key: str = "") -> Path:
        """Return the file that contains *table*, or a key of it."""
        return self._owners.get((table, key)) or self._report.owner(table) or self.files[0]

    def _merge(self, name: str, table: Raw, path: Path) -> None:
        mine = self.raw.setdefault(name, {})
        for key, value in table.items():
            if key in mine:
                first = self._owners[name, key]
                what = f"is defined in {first} and in {path}; keep one of them"
                place = (name, key) if name in SINGLE else (f"{name}.{key}", "")
                self._report.problem(*place, what)
            else:
                mine[key] = value
                self._owners[name, key] = path

    def _included(self, included: Any, path: Path) -> Iterator[Path]:
        if not isinstance(included, list) or not all(isinstance(x, str) for x in included):
            self._report.problem("", "include", 'must be a list; write include = ["routes/*.toml"]')
            return
        for written in included:
            name = self._references.expanded(written, "", "include")
            pattern = str(Path(escape(str(path.parent))) / name)
            self.patterns.append(pattern)
            if not has_magic(name):
                file = path.parent / name
                if file.is_file():
                    yield file
                else:
                    what = f"there is no file {file}; write the path relative to {path.name}"
                    self._report.problem("", "include", what)
                continue
            found = sorted(glob(pattern))  # noqa: PTH207 - the pattern may be absolute
            if not found:
                what = f"no file matches {name!r}, relative to {path.name}; nothing is read"
                self._report.warning("", "include", what)
            yield from map(Path, found)
