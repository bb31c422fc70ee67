"""The file itself: its text, its TOML, its tables."""

import re
import tomllib
from pathlib import Path
from typing import Any

from gateway.config.models import TABLES
from gateway.config.problems import Report
from gateway.config.tables import LISTS
from gateway.errors import ConfigError
from gateway.words import nearest

Raw = dict[str, Any]
"""A table as TOML has it."""
NAMES = frozenset({*TABLES, "steps", "include"})
"""What may stand at the top of a file."""


def text_of(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise ConfigError([f"{path}: {reason}; name a readable file"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is no UTF-8 text; TOML files are"]) from error


def toml_of(path: Path, text: str) -> Raw:
    """Return what *text* says.

    Raises:
        ConfigError: it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError([f"{path}: is nested too deeply; see https://toml.io"]) from error
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        number = line[1] if line else str(text.count("\n") + 1)
        raise ConfigError([f"{path}:{number}: is no TOML: {what}; see https://toml.io"]) from error


def tables_of(path: Path, text: str, report: Report) -> Raw:
    """Return the tables that *text* has, those of a wrong kind reported and left out.

    Raises:
        ConfigError: it is no TOML.
    """
    tables: Raw = {}
    for name, value in toml_of(path, text).items():
        if name == "include":
            tables[name] = value
        elif name not in NAMES:
            what = f"unknown table; {nearest(name, NAMES)}"
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
