"""Recognise the person whom an event is about, by any of their ids."""

import hashlib
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.event import Event
from gateway.redact import spellings

CERTAIN = 8
"""Characters; a text that contains so long an id names the person, a shorter one may by chance."""
HASHED = "sha256:"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ESCAPES = re.compile(rb"(?:\\u[0-9a-fA-F]{4})+")
"""Characters as JSON escapes them (RFC 8259, section 7)."""
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


class SuppressionList(NamedTuple):
    """People whose events must not be processed, by their ids or by hashes of them."""

    ids: frozenset[str]
    hashes: frozenset[str]
    """SHA-256 of normalized ids, in hexadecimal digits."""

    def names(self, event: Event) -> bool:
        """Return whether *event* is about somebody on the list."""
        known = list(identifiers(event))
        if not self.ids.isdisjoint(known):
            return True
        return bool(self.hashes) and any(_hashed(one) in self.hashes for one in known)


def parse_suppressions(text: str) -> SuppressionList:
    """Parse a list: an id, an e-mail address or ``sha256:DIGITS`` on each line.

    Blank lines and lines that begin with ``#`` are left out.

    Raises:
        ValueError: a line is wrong; the message has its number, and nothing of it.
    """
    ids: set[str] = set()
    hashes: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        said = line.strip()
        if not said or said.startswith("#"):
            continue
        if not said.lower().startswith(HASHED):
            ids.add(normalized(said))
            continue
        digits = said[len(HASHED) :].strip().lower()
        if not _SHA256.fullmatch(digits):
            raise ValueError(f"line {number} is not sha256: and 64 hexadecimal digits; correct it")
        hashes.add(digits)
    return SuppressionList(frozenset(ids), frozenset(hashes))


def _hashed(identifier: str) -> str:
    return hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()


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


def _has(text: bytes, forms: Collection[_Form]) -> bool:
    return any(
        form.text in low and (form.word is None or form.word.search(low) is not None)
        for low in _spelled_out(text)
        for form in forms
    )


def _spelled_out(text: bytes) -> Iterator[bytes]:
    """Yield *text* in lower case: as it is, and without the escapes of JSON and of URLs."""
    yield _lower(text)
    if b"\\u" in text:
        yield _lower(_ESCAPES.sub(_unescaped, text))
    if b"%" in text:
        yield _lower(unquote_to_bytes(text))


def _lower(text: bytes) -> bytes:
    return text.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape")


def _unescaped(found: re.Match[bytes]) -> bytes:
    units = bytes.fromhex(found[0].decode().replace("\\u", ""))
    return units.decode("utf-16-be", "replace").encode("utf-8", "replace")
