"""Quartic's rules for values, and the conversion of a contact's lists to objects by name.

Source: https://docs.quarticon.com/storeapi/documentation/, version 1.0.6.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.plugin import EPOCH_SECONDS, NUMBER, TEXT, Codec, Fault, Product, Rejected, unchanged

SYMBOL = re.compile(r"[A-Za-z0-9_-]+")
"""A product id: "allowed characters: [a-z0-9A-Z-_]"."""
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
"""A "valid user email", as far as a pattern can check it."""
LATEST = 10**11
"""Unix seconds are below it until the year 5138; milliseconds have been above it since 1973."""
TEXTS = "agreements[].c"
"""The key with the texts of a contact's agreements by type. No field of Quartic has this name."""
AGREEMENT: Mapping[str, type] = {"t": str, "c": str, "s": bool}
TAG: Mapping[str, type] = {"n": str, "v": str}
CATEGORY: Mapping[str, type] = {"id": int, "name": str}
JSON_NAMES = {str: "string", int: "integer", bool: "boolean"}


def filled(value: Any) -> str | None:
    """Return *value* if it is text and not blank, else None."""
    return value if type(value) is str and value.strip() else None


def email(value: Any) -> str | None:
    """Return *value* if Quartic accepts it as e-mail address, else None."""
    return value if type(value) is str and EMAIL.fullmatch(value) else None


def in_time(seconds: float) -> bool:
    """Return whether *seconds* can be Unix time in seconds."""
    return 0 < seconds < LATEST


def _checked_text(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank")
    return value


def _checked_email(value: str) -> str:
    if not EMAIL.fullmatch(value):
        raise ValueError("is not a valid e-mail address")
    return value


def _checked_symbol(value: Any) -> str:
    text: str = TEXT.decode(value)
    if not SYMBOL.fullmatch(text):
        raise ValueError("must have only letters, digits, - and _")
    return text


def _checked_time(value: int) -> Any:
    if not in_time(value):
        raise ValueError("is not a UNIX timestamp in seconds")
    return EPOCH_SECONDS.decode(value)


def _age(text: str) -> float:
    number: float = NUMBER.decode(text)
    if _age_text(number) != text:
        raise ValueError("must be a plain number")
    return number


def _age_text(number: float) -> str:
    return str(int(number) if number == int(number) else number)


FILLED = Codec("text that is not blank", _checked_text, unchanged, (str,))
ADDRESS = Codec("e-mail address", _checked_email, unchanged, (str,))
PRODUCT_ID = Codec("letters, digits, - and _", _checked_symbol, unchanged, (str,))
SECONDS = Codec(EPOCH_SECONDS.name, _checked_time, EPOCH_SECONDS.encode, EPOCH_SECONDS.gives)
AGE = Codec("number as text", _age, _age_text, (int, float))


def check_members(payload: Mapping[str, Any], key: str, fields: Mapping[str, type]) -> list[Any]:
    """Check that the members of the list under *key* have *fields*; return it, empty if missing.

    Raises:
        Rejected: it is not a list of such objects.
    """
    listed = payload.get(key)
    if listed is None:
        return []
    if type(listed) is not list:
        raise Rejected(key, "expected array", Fault.TYPE, listed)
    for index, member in enumerate(listed):
        place = f"{key}.{index}"
        if type(member) is not dict:
            raise Rejected(place, "expected object", Fault.TYPE, member)
        for name, kind in fields.items():
            _check_member(f"{place}.{name}", member.get(name), kind)
    return listed


def _check_member(path: str, value: object, kind: type) -> None:
    if value is None:
        raise Rejected(path, "required", Fault.MISSING)
    if type(value) is not kind:
        raise Rejected(path, f"expected {JSON_NAMES[kind]}", Fault.TYPE, value)
    if path.endswith((".t", ".n")) and not filled(value):
        raise Rejected(path, "is blank", Fault.VALUE, value)


def by_name(contact: Mapping[str, Any]) -> dict[str, Any]:
    """Return *contact* with its agreements and tags as objects, by type and by name.

    If two have the same name, the last one counts.

    Raises:
        Rejected: the lists are invalid.
    """
    found = {key: value for key, value in contact.items() if key != TEXTS}
    agreements = check_members(contact, "agreements", AGREEMENT)
    tags = check_members(contact, "tags", TAG)
    if agreements:
        found["agreements"] = {agreement["t"]: agreement["s"] for agreement in agreements}
        found[TEXTS] = {agreement["t"]: agreement["c"] for agreement in agreements}
    if tags:
        found["tags"] = {tag["n"]: tag["v"] for tag in tags}
    return found


def as_lists(contact: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return *contact* with its agreements and tags as lists again; *texts* are by type.

    A withdrawn agreement without a text gets its type as text.
    """
    found = dict(contact)
    if "agreements" in found:
        given = found["agreements"].items()
        found["agreements"] = [
            {"t": kind, "c": texts.get(kind, kind), "s": said} for kind, said in given
        ]
    if "tags" in found:
        found["tags"] = [{"n": name, "v": value} for name, value in found["tags"].items()]
    return found


def derived_total(products: Iterable[Product]) -> float:
    """Return the sum of price times quantity of *products*."""
    return round(math.fsum((p.price or 0) * (p.quantity or 0) for p in products), 6)
