"""Losses that were reviewed and accepted, each with its reason.

A vendor with free properties could be told every field. What its mapping leaves out on purpose
stands in ``losses.toml`` beside it, each with the reason and, where a setting of the destination
or a step of a route would mend it, with that. `gateway.testing` checks that the list is complete.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from gateway.errors import PluginError
from gateway.event import Event
from gateway.plugin.vendor import OutgoingCall, Output

FREE: Final = re.compile(r"(^|\.)(extra|consent)\..*")
INDEX: Final = re.compile(r"\[\d+\]")


def named(path: str) -> str:
    """Return the name under which *path* is counted: free keys count as one, and so do members."""
    return FREE.sub(r"\1\2.*", membered(path))


def membered(path: str) -> str:
    """Return *path* without saying which member of a list it is about."""
    return INDEX.sub("[]", path)


FILE: Final = "losses.toml"
KEYS: Final = {"fields", "events", "reason", "step"}


class Reviewed(NamedTuple):
    """Fields that are left out for one reason."""

    fields: tuple[str, ...]
    """As globs, such as ``context.device.*``."""
    events: tuple[str, ...]
    """Types and names of the events that it is about; empty for all."""
    reason: str
    step: str
    """What to write to have the field told; ``{field}`` is its name, and ``{place}``
    what of the event has it, properties or traits. Empty where nothing would."""

    def holds(self, event: Event, path: str) -> bool:
        """Tell whether this is why *event*'s field at *path* does not arrive."""
        if self.events and not {event.type, event.name or ""} & set(self.events):
            return False
        field = named(path)
        return any(fnmatchcase(field, glob) for glob in self.fields)

    def why(self, path: str) -> str:
        """Return the reason with the step, for the field at *path*."""
        if not self.step or (self.step.startswith("copy") and "[]" in path):
            return self.reason  # no step copies a field of each member of a list
        head, mark, rest = path.partition(".extra.")
        field = f"{head}.{rest}" if mark else path
        if self.step.startswith("include"):
            field = "consent" if path.startswith("consent.") else field
        elif head == "context":
            field = path
        place = "traits" if head == "traits" else "properties"
        step = self.step.replace("{field}", field).replace("{place}", place)
        return f"{self.reason}; to send it: {step}"


def reviewed(output: type[Output]) -> tuple[Reviewed, ...]:
    """Return the list of *output*'s vendor; empty where it has none.

    Raises:
        PluginError: the file is none that can be read.
    """
    source = getattr(sys.modules.get(output.__module__), "__file__", None)
    return _read(Path(source).with_name(FILE)) if source else ()


def takes_anything(call: OutgoingCall) -> bool:
    """Tell whether the payload of *call* has a place for whatever an event knows."""
    return any(row.wire.endswith("*") for row in call.table.said(call.event))


def why(output: Output, event: Event, path: str, *, free: bool = True) -> str:
    """Return the reviewed reason for which *event*'s field at *path* is lost; empty for none.

    Args:
        output: the destination.
        event: as it is told.
        path: of a field that is lost.
        free: whether the payload `takes_anything`; where it does not, only the steps that are about
            this kind of event would help.
    """
    for one in reviewed(type(output)):
        if one.holds(event, path) and (free or one.events or not one.step):
            return one.why(path)
    return ""


@cache
def _read(path: Path) -> tuple[Reviewed, ...]:
    if not path.exists():
        return ()
    try:
        listed = tomllib.loads(path.read_text()).get("lost", [])
        return tuple(_entries(listed))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        what = "each [[lost]] has fields, a reason, and at most events and a step"
        raise PluginError(f"{path}: {error}; {what}") from error


def _entries(listed: list[dict[str, object]]) -> Iterator[Reviewed]:
    for entry in listed:
        if unknown := entry.keys() - KEYS:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        fields, events = entry["fields"], entry.get("events", [])
        if not isinstance(fields, list) or not isinstance(events, list):
            raise TypeError("fields and events are lists")
        step = str(entry.get("step", ""))
        yield Reviewed(tuple(fields), tuple(events), str(entry["reason"]), step)
