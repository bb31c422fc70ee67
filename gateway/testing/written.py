"""The line on which each row of the tables is written."""

import sys
from pathlib import Path
from typing import Any

from gateway.mapping import Row

_LINES: dict[int, tuple[Row, str]] = {}
"""By the row's id; the row itself is kept so that no other gets that id."""


def watch_rows() -> None:
    """Note from now on where rows are made; tables that were imported before are unknown.

    A row that is made of another one (`dataclasses.replace`) is written where that one is.
    """
    make = Row.__init__

    def made(row: Row, *args: Any, **kwargs: Any) -> None:
        make(row, *args, **kwargs)
        caller = sys._getframe(1)  # noqa: SLF001 - the cheapest way to ask who calls
        if caller.f_globals["__name__"] != "dataclasses":
            _LINES[id(row)] = row, f"{caller.f_code.co_filename}:{caller.f_lineno}"
            return
        (like,) = (value for value in caller.f_locals.values() if isinstance(value, Row))
        if id(like) in _LINES:
            _LINES[id(row)] = row, _LINES[id(like)][1]

    setattr(Row, "__init__", made)  # noqa: B010 - mypy knows that a class has one already


def line_of(row: Row) -> str:
    """Return the file and the line of *row*, relative to the working directory if it is in it.

    Empty where that is not known.
    """
    _, line = _LINES.get(id(row), (None, ""))
    here = f"{Path.cwd()}/"
    return line.removeprefix(here)
