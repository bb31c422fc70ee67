"""What the steps of a route changed of an event: which fields, and how; never the values."""

import re
from collections.abc import Callable

from gateway.changes import GONE, changes
from gateway.event import Event
from gateway.trace.records import Change, How

MOST = 50
"""Fields that are named, those of all members of a list as one; more are counted."""

_INDEX = re.compile(r"\[\d+\]")


def changed(
    before: Event, after: Event, hide: Callable[[str], str]
) -> tuple[tuple[Change, ...], int]:
    """Return the fields that differ, and how many there are besides.

    Args:
        before: as accepted.
        after: as rendered.
        hide: takes credentials out of a text; names of fields may be the sender's own.
    """
    found: dict[Change, None] = {}
    try:
        differing = () if before is after else changes(before, after)
    except RecursionError:  # nested too deeply to be looked into; the rest is worth keeping
        differing = ()
    for path, old, new in differing:
        how: How = "set" if old is GONE else "gone" if new is GONE else "changed"
        found[Change(_INDEX.sub("[]", path), how)] = None
    named = tuple(Change(hide(one.path), one.how) for one in list(found)[:MOST])
    return named, len(found) - len(named)
