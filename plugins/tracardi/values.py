"""Conversions of values that Tracardi writes differently from the event.

Source: GitHub Tracardi/tracardi (tracardi/domain), whose models are pydantic's.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import sha1
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from gateway.plugin import ISO8601_EXACT, ISO8601_OR_UNIX, Codec, unchanged
from gateway.plugin.spec import phone_text

NAMESPACE: Final = uuid5(NAMESPACE_URL, "https://docs.tracardi.com/events/event_tracking/")
NAMESPACE_BYTES: Final = NAMESPACE.bytes
VARIANTS: Final = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
"""The digit of a UUID that has its variant in the first two bits, by a digit of the hash."""
MIDNIGHT: Final = " 00:00:00"
PLACES: Final = {"town": "city", "county": "state", "postcode": "postalCode"}
"""Keys of an address, and those of the Segment Spec."""
SPEC_PLACES: Final = {ours: theirs for theirs, ours in PLACES.items()}


def derived(kind: str, seed: str) -> str:
    """Return an id computed from *kind* and *seed*, the same every time.

    It is their UUID of version 5 (RFC 9562, section 5.5), made in a third of the time of `uuid5`.
    """
    made = sha1(NAMESPACE_BYTES + f"{kind} {seed}".encode(), usedforsecurity=False).hexdigest()
    variant = VARIANTS[made[16]]
    return f"{made[:8]}-{made[8:12]}-5{made[13:16]}-{variant}{made[17:20]}-{made[20:32]}"


def _trimmed(text: str) -> str:
    inner = text.strip()
    if not inner:
        raise ValueError("blank")
    return inner


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc or url
    except ValueError:
        return url


def _flags(found: Mapping[str, Any]) -> dict[str, bool]:
    if not all(type(flag) is bool for flag in found.values()):
        raise ValueError("not every category is true or false")
    return dict(found)


def _address(found: Any) -> Any:
    return {PLACES.get(k, k): v for k, v in found.items()} if type(found) is dict else found


def _spec_address(held: Any) -> Any:
    return {SPEC_PLACES.get(k, k): v for k, v in held.items()} if type(held) is dict else held


def _birthday(text: str) -> str:
    return text.removesuffix(MIDNIGHT)


def _birth_time(text: str) -> str:
    return text + MIDNIGHT if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text


def _phone(value: Any) -> str:
    if type(value) not in {str, int, float}:
        raise ValueError("neither text nor a number")
    return phone_text(value)


PHONE = Codec("text or number", _phone, unchanged, (str,))
TRIMMED = Codec("without the spaces around it", _trimmed, unchanged, (str,))
"""An id; the server trims it as well (tracardi/service/tracker.py)."""
_time = lru_cache(maxsize=64, typed=True)(ISO8601_OR_UNIX.decode)
"""Remembers the last times: the rules read each time of a payload before the tables do."""
TIME = Codec(ISO8601_OR_UNIX.name, _time, ISO8601_EXACT.encode, (datetime,))
"""Any text or number that pydantic accepts as datetime; without a zone it is UTC."""
HOST = Codec("the host alone", unchanged, _host, (str,))
FLAGS = Codec("true or false by category", _flags, unchanged, (dict,))
ADDRESS = Codec(
    "town, county, postcode: city, state, postalCode", _address, _spec_address, (dict, str)
)
BIRTHDAY = Codec("date at midnight", _birthday, _birth_time, (str,))
"""The predefined ``profile-update`` has ``2010-01-01 00:00:00``."""
