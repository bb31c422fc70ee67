"""Steps that hide values from a destination: hash, mask, truncate_ip."""

import hashlib
import hmac
import re
from collections.abc import Callable
from contextlib import suppress
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any

import orjson

from gateway.config.steps import Hash, Mask, TruncateIp
from gateway.json_text import dumps
from gateway.routing.step_values import Change, edit, in_turn, without_leftovers

EMAIL_NAMES = frozenset({"email", "e_mail", "mail", "email_address", "emailaddress"})
PHONE_NAMES = frozenset({"phone", "phone_number", "phonenumber", "mobile", "telephone", "msisdn"})
_NOT_DIGITS = re.compile(r"\D+")
V6_KEPT = 6
"""Bytes of an IPv6 address that stay: all but the last 80 bits, as in Google Analytics
(https://support.google.com/analytics/answer/2763052)."""
MAPPED = bytes(10) + b"\xff\xff"
"""Prefix of an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2)."""


def hash_values(step: Hash) -> Change:
    """Return the change of a ``hash`` step."""
    digest = _digest(step.key.get_secret_value().encode() if step.key else None)
    changes: list[Change] = [without_leftovers]
    for path in step.hash:
        prepared = _preparation(path.rpartition(".")[2].lower(), step)

        def hashed(
            value: Any, prepared: Callable[[str], str] = prepared
        ) -> str | None:  # bound at each iteration
            if value is None:
                return None
            return digest(prepared(value if isinstance(value, str) else _text(value)).encode())

        changes.append(edit(path, hashed))
    return in_turn(changes)


def _digest(key: bytes | None) -> Callable[[bytes], str]:
    if key is None:
        return lambda text: hashlib.sha256(text).hexdigest()
    keyed = hmac.new(key, digestmod=hashlib.sha256)

    def digest(text: bytes) -> str:
        own = keyed.copy()
        own.update(text)
        return own.hexdigest()

    return digest


def _preparation(name: str, step: Hash) -> Callable[[str], str]:
    kind = step.normalize
    if kind == "auto":
        kind = "email" if name in EMAIL_NAMES else "phone" if name in PHONE_NAMES else "none"
    if kind == "email":
        return email
    if kind == "phone":
        return e164 if step.phone == "e164" else phone_digits
    return lambda text: text


def _text(value: Any) -> str:
    """Return a value that is not text as JSON; the order of keys does not matter."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return dumps(value, option=orjson.OPT_SORT_KEYS, default=str).decode()


def email(text: str) -> str:
    """Return an e-mail address as ad platforms hash it: trimmed, in lower case.

    https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/customer-information-parameters
    https://developers.google.com/google-ads/api/docs/conversions/upload-online (it also removes the
    dots from Gmail addresses; this function does not, because other platforms do not)
    """
    return text.strip().lower()


def phone_digits(text: str) -> str:
    """Return a phone number as Meta hashes it: only digits, without leading zeros.

    https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/customer-information-parameters
    The number must include the country code.
    """
    return _NOT_DIGITS.sub("", text.replace("(0)", "")).lstrip("0")


def e164(text: str) -> str:
    """Return a phone number in E.164, as Google hashes it: a plus sign and digits.

    https://developers.google.com/google-ads/api/docs/conversions/upload-online
    """
    return f"+{phone_digits(text)}"


def mask_values(step: Mask) -> Change:
    """Return the change of a ``mask`` step."""

    def masked(value: Any) -> str | None:
        if value is None:
            return None
        text = value if isinstance(value, str) else _text(value)
        hidden = len(text) - step.first - step.last
        if hidden <= 0:
            return "*" * len(text)
        return text[: step.first] + "*" * hidden + text[len(text) - step.last :]

    return in_turn([without_leftovers, *(edit(path, masked) for path in step.mask)])


def truncate_ips(step: TruncateIp) -> Change:
    """Return the change of a ``truncate_ip`` step."""
    return in_turn([without_leftovers, *(edit(path, truncated) for path in step.truncate_ip)])


def truncated(value: Any) -> str | None:
    """Return an IP address with its last part zero; None if *value* is not an address."""
    text = value.strip() if isinstance(value, str) else ""
    # OSError: no address; ValueError: NUL or a lone surrogate, which no C string can hold
    with suppress(OSError, ValueError):
        return inet_ntop(AF_INET, inet_pton(AF_INET, text)[:3] + b"\0")
    with suppress(OSError, ValueError):
        packed = inet_pton(AF_INET6, text)
        if packed.startswith(MAPPED):
            return inet_ntop(AF_INET, packed[12:15] + b"\0")
        return inet_ntop(AF_INET6, packed[:V6_KEPT] + bytes(16 - V6_KEPT))
    return None
