"""Recognise the person whom an event is about, by any of their ids."""

import re
from collections.abc import Collection, Iterator

from gateway.event import Event
from gateway.redact import spellings

CERTAIN = 8
"""Characters; a text that contains so long an id names the person, a shorter one may by chance."""
_BEFORE, _AFTER = rb"(?<![0-9A-Za-z_-])", rb"(?![0-9A-Za-z_-])"


def normalized(identifier: str) -> str:
    """Return an id without white space around it; an e-mail address also in lower case."""
    identifier = identifier.strip()
    return identifier.lower() if "@" in identifier else identifier


def identifiers(event: Event) -> Iterator[str]:
    """Yield what names the person of *event*, normalized: user, visitor, device, visit, e-mail."""
    for one in (
        event.user_id,
        event.anonymous_id,
        event.previous_id,
        event.context.device.id,
        event.session_id,
        event.traits.email,
    ):
        if one:
            yield normalized(one)


class Person:
    """A person, known by some ids.

    Args:
        ids: user ids, anonymous ids, device ids, session ids or e-mail addresses.
    """

    def __init__(self, ids: Collection[str]) -> None:
        self.ids = frozenset(filter(None, map(normalized, ids)))
        self._anywhere = _searched(self.ids)
        self._certain = _searched([one for one in self.ids if len(one) >= CERTAIN])

    def is_named_by(self, event: Event) -> bool:
        """Return whether *event* is about the person."""
        return not self.ids.isdisjoint(identifiers(event))

    def may_be_in(self, *parts: bytes) -> bool:
        """Return whether one of the ids stands in *parts*, plain or encoded, perhaps by chance."""
        return any(self._anywhere.search(part) for part in parts)

    def is_in(self, *parts: bytes) -> bool:
        """Return whether an id stands in *parts* that is too long to stand there by chance."""
        return any(self._certain.search(part) for part in parts)


def _searched(ids: Collection[str]) -> re.Pattern[bytes]:
    """Return the pattern of *ids*: whole words as they are, and anywhere where they are encoded."""
    plain = {one.encode() for one in ids}
    coded = {form.encode() for one in ids for form in spellings(one)} - plain
    words = [_BEFORE + re.escape(one) + _AFTER for one in plain]
    forms = [re.escape(one) for one in sorted(coded, key=len, reverse=True)]
    return re.compile(b"|".join([*words, *forms]) or rb"(?!)", re.IGNORECASE)
