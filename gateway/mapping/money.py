"""Read amounts of money that are written as text.

Segment's own destinations strip ``$`` and use JavaScript's ``parseFloat``
(https://github.com/segmentio/facade, lib/track.js): "$25.50" is 25.5, and "1 299,00" would be 1.
This module reads 1299: text that can only mean one number is accepted, all other text is rejected.
"""

import re
from typing import Any, Final

from gateway.mapping.codecs import NUMBER, Codec

PLAIN: Final = frozenset({int, float})
LONGEST: Final = 64
"""Most characters of an amount."""
_SIGN: Final = (
    r"(?:[A-Za-z]{0,3}[$\u00a2-\u00a5\u058f\u060b\u09f2\u09f3\u0e3f\u17db\u20a0-\u20bf\ufdfc]"
    r"|[A-Z]{3}|kr|z\u0142|K\u010d|Ft)"
)
"""A currency's sign or code."""
_GAP: Final = r"[ \u00a0\u2009\u202f'\u2019]"
_AMOUNT: Final = re.compile(
    rf"(?P<minus>[-\u2212]?)(?P<before>{_SIGN}?)\s*(?P<inner>[-\u2212]?)"
    rf"(?P<digits>[0-9](?:[0-9.,]|{_GAP}(?=[0-9]))*)\s*(?P<behind>{_SIGN}?)\.?"
)
_WAYS: Final = (
    (re.compile(rf"[0-9]{{1,3}}(?:{_GAP}[0-9]{{3}})+(?:[.,][0-9]+)?"), _GAP),
    (re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+\.[0-9]+|[0-9]{1,3}(?:,[0-9]{3}){2,}"), ","),
    (re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+|[0-9]{1,3}(?:\.[0-9]{3}){2,}"), r"\."),
    (re.compile(r"[0-9]+(?:[.,][0-9]+)?"), ""),
)
"""Formats of an amount, each with its thousands separator."""
_UNCLEAR: Final = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
"""Ambiguous: thousands, or a fraction with three digits."""
_COMMA_GROUPS: Final = ("$", "\u00a3", "\u00a5")
"""Currencies with a comma as thousands separator and a decimal point."""


def _amount(value: Any) -> float:
    if type(value) in PLAIN:
        return value  # type: ignore[no-any-return]  # it is one of these
    try:
        number: float = NUMBER.decode(value)
    except ValueError:
        if type(value) is not str:
            raise
        number = NUMBER.decode(_as_number(value))
    return number


def _as_number(text: str) -> str:
    """Return an amount in the syntax of a number.

    Raises:
        ValueError: the text is not an amount, or is ambiguous.
    """
    found = _AMOUNT.fullmatch(text.strip()) if len(text) <= LONGEST else None
    if found is None or (found["minus"] and found["inner"]):
        raise ValueError("must be a number")
    digits, sign = found["digits"], found["before"] or found["behind"]
    minus = "-" if found["minus"] or found["inner"] else ""
    if _UNCLEAR.fullmatch(digits):
        if not sign.endswith(_COMMA_GROUPS):
            raise ValueError("is ambiguous; write 1299.00")
        return minus + digits.replace(",", "")
    for way, group in _WAYS:
        if way.fullmatch(digits):
            plain = re.sub(group, "", digits) if group else digits
            return minus + plain.replace(",", ".")
    raise ValueError("must be a number")


MONEY: Final = Codec(
    'number, also "$25.50"', _amount, NUMBER.encode, (int, float), keeps=(int, float)
)
"""An amount of money; ambiguous text such as 1,299 is rejected."""
