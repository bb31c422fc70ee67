"""Recognise the person whom an event is about, by any of their ids."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from gateway.event import Event
from gateway.redact import spellings

CERTAIN = 8
"""Characters; a text that contains so long an id names the person, a shorter one may by chance."""
_BEFORE, _AFTER = rb"(?<![0-9a-z_-])", rb"(?![0-9a-z_-])"


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
        self._anywhere = [found for one in self.ids for found in _forms(one)]
        self._certain = [found for one in self.ids if len(one) >= CERTAIN for found in _forms(one)]

    def is_named_by(self, event: Event) -> bool:
        """Return whether *event* is about the person."""
        return not self.ids.isdisjoint(identifiers(event))

    def may_be_in(self, text: bytes) -> bool:
        """Return whether one of the ids stands in *text*, plain or encoded, perhaps by chance."""
        return _has(text, self._anywhere)

    def is_in(self, text: bytes) -> bool:
        """Return whether an id stands in *text* that is too long to stand there by chance."""
        return _has(text, self._certain)


class _Form(NamedTuple):
    """One spelling of an id, in lower case."""

    text: bytes
    word: re.Pattern[bytes] | None
    """Finds it as a whole word; None if its encoding makes it unmistakable."""


def _forms(identifier: str) -> Iterator[_Form]:
    """Yield the spellings of an id: as a whole word if it is plain, anywhere if it is encoded."""
    plain = identifier.lower()
    yield _Form(plain.encode(), re.compile(_BEFORE + re.escape(plain.encode()) + _AFTER))
    for coded in {form.lower() for form in spellings(identifier)} - {plain}:
        yield _Form(coded.encode(), None)


def _has(text: bytes, forms: Iterable[_Form]) -> bool:
    low = text.lower()
    return any(
        form.text in low and (form.word is None or form.word.search(low) is not None)
        for form in forms
    )
