"""PersonaClick's rules for values, and their conversion.

Sources: the pages in `plugins.personaclick.wire`. Limits, and values that are silently ignored:
https://github.com/rees46/documentation-unified,
docs/integration/cdp/standard-events/events-errors.md.
"""

import re
from collections.abc import Iterable
from typing import Any

from gateway.plugin import NUMBER, Codec, unchanged
from gateway.plugin.spec import phone_text

IDENTIFIERS = ("did", "email", "phone", "external_id", "loyalty_id", "telegram_id")
"""Any of them identifies a person (docs/integration/cdp/custom-events.md)."""
SEGMENTS = ("A", "B")
RECOMMENDED_BY = (
    "dynamic", "chain", "bulk", "transactional", "instant_search", "full_search", "stories",
    "web_push_digest",
)  # fmt: skip
"""Values that the app SDKs send (see `plugins.personaclick.wire`). They are also the values of
``source.from``; PersonaClick ignores a ``source`` with another one."""
MESSAGE_TYPES = ("bulk", "chain", "transactional")
"""Kinds of messages (docs/integration/cdp/communications-events)."""
LONGEST_ID = 255
"""Characters of a product's or an order's id."""
LEAST, MOST = 1, 1000
"""Range of amounts; others are limited to it."""
LARGEST = 2**63
STREAM_KEPT = re.compile(r"[A-Za-z0-9_]{1,16}", re.ASCII)
"""The page allows letters and digits; newer documentation adds ``_``."""
STREAM_SENT = re.compile(r"[A-Za-z0-9]{1,16}", re.ASCII)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
FREE_NAME = re.compile(r"[a-z0-9_]+")
"""Names of the fields of a custom event, and of a profile's own fields."""
RESERVED = frozenset({
    "shop_id", "shop_secret", *IDENTIFIERS, "id", "seance", "sid", "stream", "segment", "referer",
    "source", "from", "code", "event", "payload", "time", "category", "label", "value",
})  # fmt: skip
"""Keys with their own meaning, which free fields cannot have
(https://github.com/PersonaClick/rn-sdk, lib/buildTrackCustomEventParams.js)."""


def is_number(value: Any) -> bool:
    """Return whether *value* is a JSON number."""
    return isinstance(value, int | float) and type(value) is not bool


def is_product_id(value: Any) -> bool:
    """Return whether PersonaClick accepts *value* as product id; it ignores other products."""
    if type(value) is not str:
        return is_number(value)
    return bool(value.strip()) and len(value) <= LONGEST_ID and "\\" not in value


def text(value: Any) -> str | None:
    """Return *value* as text that is not blank; numbers become text, all else None."""
    if type(value) is str:
        return value if value.strip() else None
    return phone_text(value) if is_number(value) else None


def number(value: Any) -> float | None:
    """Return *value*, a number or numeric text, as a number; None for all else."""
    kind = type(value)
    if kind is int or kind is float:
        return value  # type: ignore[no-any-return]  # it is one of these
    if kind is not str and not is_number(value):
        return None
    try:
        return NUMBER.decode(value)  # type: ignore[no-any-return]  # a codec's result is Any
    except ValueError:
        return None


def amount(value: Any) -> int | None:
    """Return *value* as a whole number limited to 1 to 1000; None if it is not a number."""
    found = number(value)
    return None if found is None else int(min(max(found, LEAST), MOST))


def price(value: Any) -> float | None:
    """Return *value* as a number of at least 0; None for all else."""
    found = number(value)
    return None if found is None or found < 0 else found


def _filled(value: Any) -> str:
    found = text(value)
    if found is None:
        raise ValueError("must not be empty")
    return found


def _short(value: Any) -> str:
    found = str(value)
    if len(found) > LONGEST_ID:
        raise ValueError(f"must have at most {LONGEST_ID} characters")
    return found


def _stream(value: str) -> str:
    if not value:
        return "web"
    if not STREAM_KEPT.fullmatch(value):
        raise ValueError("must be at most 16 letters and digits")
    return value


def whole(value: float) -> int:
    """Return *value* as an integer.

    Raises:
        ValueError: it has a fraction, or more than 64 bits.
    """
    if not -LARGEST <= value < LARGEST or value != int(value):
        raise ValueError("must be a whole number of at most 64 bits")
    return int(value)


def _email(value: str) -> str | None:
    if value.strip() and not EMAIL.fullmatch(value):
        raise ValueError("must be an e-mail address")
    return text(value)


def one_of(words: Iterable[str]) -> Codec:
    """Return a codec that accepts only *words*."""
    allowed = tuple(words)
    listed = ", ".join(allowed)

    def decode(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {listed}")
        return value

    return Codec(f"one of {listed}", decode, unchanged, (str,))


FILLED = Codec("not empty", _filled, unchanged, (str,))
ADDRESS = Codec("e-mail address; blank means absent", _email, unchanged, (str,))
FILLED_OR_ABSENT = Codec("text; blank means absent", text, unchanged, (str,))
ORDER_ID = Codec("text or number, at most 255 characters", _short, unchanged, (str,))
STREAM = Codec("at most 16 letters and digits; empty means web", _stream, unchanged, (str,))
AMOUNT = Codec("whole number brought within 1 and 1000", amount, unchanged, (int,))
PRICE = Codec("number of at least 0; others count as absent", price, unchanged, (int, float))
WHOLE = Codec("whole number", whole, unchanged, (int,))
