"""Read losses that were reviewed and accepted, each with its reason.

A vendor with free properties could get every field. Fields that its mapping leaves out on purpose
are listed in ``losses.toml`` beside it, each with the reason and, if possible, with the setting or
the step that sends the field. `gateway.testing` checks that the list is complete.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from gateway.errors import PluginError
from gateway.event import Event
from gateway.plugin.vendor import OutgoingCall, Output

FREE: Final = re.compile(r"(^|\.)(extra|consent)\..*")
INDEX: Final = re.compile(r"\[\d+\]")


def named(path: str) -> str:
    """Return the name under which *path* is counted; free keys and list items are joined."""
    return FREE.sub(r"\1\2.*", membered(path))


def membered(path: str) -> str:
    """Return *path* with ``[]`` in place of list indexes."""
    return INDEX.sub("[]", path)


FILE: Final = "losses.toml"
REMEDY: Final = "; to send it: "
"""Between a reason and the step that sends the field."""
KEYS: Final = {"fields", "events", "reason", "step"}


class Reviewed(NamedTuple):
    """Fields that are left out for one reason."""

    fields: tuple[str, ...]
    """Glob patterns, such as ``context.device.*``."""
    events: tuple[str, ...]
    """Types and names of events that it applies to; empty for all."""
    reason: str
    step: str
    """The setting or step that sends the field; ``{field}`` stands for its name and ``{place}`` for
    "properties" or "traits". Empty if there is none."""

    def holds(self, type_: str, name: str, field: str) -> bool:
        """Return whether it applies to a `named` field of events of that type and name."""
        if self.events and not {type_, name} & set(self.events):
            return False
        return any(fnmatchcase(field, glob) for glob in self.fields)

    def why(self, path: str) -> str:
        """Return the reason for the field at *path*, with the step that sends it."""
        if not self.step or (self.step.startswith("copy") and "[]" in path):
            return self.reason  # no step can copy a field of every item in a list
        head, mark, rest = path.partition(".extra.")
        field = f"{head}.{rest}" if mark else path
        if self.step.startswith("include"):
            field = "consent" if path.startswith("consent.") else field
        elif head == "context":
            field = path
        place = "traits" if head == "traits" else "properties"
        step = self.step.replace("{field}", field).replace("{place}", place)
        return f"{self.reason}{REMEDY}{step}"


def reviewed(output: type[Output]) -> tuple[Reviewed, ...]:
    """Return the reviewed losses of *output*'s vendor; empty without a file.

    Raises:
        PluginError: the file is invalid.
    """
    source = getattr(sys.modules.get(output.__module__), "__file__", None)
    return _read(Path(source).with_name(FILE)) if source else ()


def takes_anything(call: OutgoingCall) -> bool:
    """Return whether the payload of *call* has a place for any field."""
    return any(row.wire.endswith("*") for row in call.table.said(call.event))


def why(output: Output, event: Event, path: str, *, free: bool = True) -> str:
    """Return the reviewed reason why *event*'s field at *path* is lost; empty if there is none.

    Args:
        output: the destination's output.
        event: the event as rendered.
        path: the path of a lost field.
        free: whether the payload `takes_anything`; if not, only steps for this kind of event help.
    """
    for one in _holding(type(output), event.type, event.name or "", named(path)):
        if free or one.events or not one.step:
            return one.why(path)
    return ""


@lru_cache(maxsize=4096)
def _holding(output: type[Output], type_: str, name: str, field: str) -> tuple[Reviewed, ...]:
    """Return the reviewed losses of *output* for a `named` field of such events."""
    return tuple(one for one in reviewed(output) if one.holds(type_, name, field))


@cache
def _read(path: Path) -> tuple[Reviewed, ...]:
    if not path.exists():
        return ()
    try:
        listed = tomllib.loads(path.read_text()).get("lost", [])
        return tuple(_entries(listed))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        what = "each [[lost]] needs fields and reason, and may have events and step"
        raise PluginError(f"{path}: {error}; {what}") from error


def _entries(listed: list[dict[str, object]]) -> Iterator[Reviewed]:
    for entry in listed:
        if unknown := entry.keys() - KEYS:
            raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
        fields, events = entry["fields"], entry.get("events", [])
        if not isinstance(fields, list) or not isinstance(events, list):
            raise TypeError("fields and events must be lists")
        step = str(entry.get("step", ""))
        yield Reviewed(tuple(fields), tuple(events), str(entry["reason"]), step)
