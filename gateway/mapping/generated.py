"""Define functions whose source is generated from tables.

`linecache` knows the source, so that tracebacks and debuggers show its lines.
"""

import linecache
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

_NUMBERS = count(1)


def define(name: str, lines: Iterable[str], names: dict[str, Any], label: str) -> Any:
    """Return the function *name* that *lines* define.

    Args:
        name: of the function.
        lines: its source. Values from outside are in it only as `repr` or as one of *names*.
        names: what the source refers to; builtins are known.
        label: for tracebacks, such as ``writer of Order``.
    """
    source = "\n".join(lines) + "\n"
    file = f"<{label}, {next(_NUMBERS)}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    exec(compile(source, file, "exec"), names)  # noqa: S102 - see the argument
    return names[name]


def indented(lines: Iterable[str]) -> Iterator[str]:
    """Yield *lines* one level further in."""
    return (f"    {line}" for line in lines)
