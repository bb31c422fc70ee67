"""The functions that the gateway adds to CEL where an expression gives a value."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from gateway.conditions.types import (
    ANY,
    FLAG,
    LIST,
    MAP,
    NUMBERS,
    SPAN,
    TEXT,
    TIME,
    WHOLE,
    Function,
    Types,
)
from gateway.json_text import dumps
from gateway.mapping.codecs import ISO8601

LONGEST_RESULT = 1024 * 1024
"""Characters of a text that a function makes of several."""


class OwnFunction(NamedTuple):
    """A function that the gateway adds to CEL where an expression gives a value."""

    form: Function
    takes: tuple[Types, ...]
    """Types of its arguments."""
    compute: Callable[..., Any]
    exported: bool = False
    """Whether it takes what would be sent, so that parts of the event may stand in it."""


def _unix(scale: int) -> OwnFunction:
    return OwnFunction(
        Function(WHOLE, arguments=1),
        (TIME,),
        lambda moment: (moment - _EPOCH) // _MICRO * scale // 10**6,
    )


def _text(compute: Callable[..., str], arguments: int = 1) -> OwnFunction:
    return OwnFunction(Function(TEXT, arguments=arguments), (TEXT,) * arguments, compute)


def _sha256(text: str) -> str:
    return hashlib.sha256(str.encode(text)).hexdigest()


def _digits(text: str) -> str:
    return "".join(one for one in str.strip(text) if "0" <= one <= "9")


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, str.strip(text)))


def _round(number: float) -> int:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError("is no number")
    if isinstance(number, int):
        return number
    return int(math.copysign(math.floor(abs(number) + 0.5), number))


def _join(members: Sequence[Any], separator: str) -> str:
    """Return the texts and numbers of a list as one text; missing members are left out."""
    if not isinstance(members, list | tuple):
        raise TypeError("is no list")
    texts = [_written(one) for one in members if one is not None]
    _check_length(sum(map(len, texts)) + len(separator) * len(texts))
    return str.join(separator, texts)


def _replace(text: str, old: str, new: str) -> str:
    _check_length(len(text) + str.count(text, old) * len(new))
    return str.replace(text, old, new)


def _check_length(most: int) -> None:
    """Raise an error for a text that two texts of the sender would make far longer than both."""
    if most > LONGEST_RESULT:
        raise ValueError(f"the text would have up to {most} characters, above {LONGEST_RESULT}")


def _written(member: Any) -> str:
    if isinstance(member, str):
        return member
    if isinstance(member, bool) or not isinstance(member, int | float):
        raise TypeError("has a member that is neither text nor number")
    return _number(member)


def _number(number: float) -> str:
    """Return a number without an exponent, and a whole one without a point, as CEL writes it."""
    if isinstance(number, int):
        return str(number)
    return format(Decimal(repr(number)), "f").removesuffix(".0")


def _string(value: Any) -> str:
    """Return a value as text: a time as it is sent, true and false as words."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return str(ISO8601.encode(value))
    if isinstance(value, int | float):
        return _number(value)
    raise TypeError("is a list or table; json(...) writes these")


def _size(value: Any) -> int:
    if not isinstance(value, str | list | tuple | Mapping):
        raise TypeError("is no text, list or table")
    return len(value)


def _left(text: str, count: float) -> str:
    if isinstance(count, bool) or not isinstance(count, int | float) or count < 0:
        raise TypeError("the number of characters is no number from 0")
    return str(str.__getitem__(text, slice(int(count))))


def _json(value: Any) -> str:
    return dumps(value).decode()


def _url_encode(text: str) -> str:
    return quote(str.encode(text), safe="")


def _query(table: Any) -> str:
    """Return a table as a query; a list becomes a repeated name."""
    if not isinstance(table, Mapping):
        raise TypeError("is no table")
    return urlencode(
        [
            (name, _string(one))
            for name, value in table.items()
            for one in (value if isinstance(value, list | tuple) else (value,))
            if one is not None
        ],
        quote_via=quote,
        safe="",
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
OWN_FUNCTIONS: Mapping[str, OwnFunction] = {
    "unix_seconds": _unix(1),
    "unix_millis": _unix(10**3),
    "unix_micros": _unix(10**6),
    "lower": _text(str.lower),
    "upper": _text(str.upper),
    "trim": _text(str.strip),
    "digits": _text(_digits),
    "letters": _text(_letters),
    "sha256": _text(_sha256),
    "replace": _text(_replace, arguments=3),
    "round": OwnFunction(Function(WHOLE, arguments=1), (NUMBERS,), _round),
    "join": OwnFunction(Function(TEXT, arguments=2), (LIST, TEXT), _join),
    "left": OwnFunction(Function(TEXT, arguments=2), (TEXT, NUMBERS), _left),
    "url_encode": _text(_url_encode),
    "query": OwnFunction(Function(TEXT, arguments=1), (MAP,), _query, exported=True),
    "json": OwnFunction(Function(TEXT, arguments=1), (ANY | WHOLE | TIME,), _json, exported=True),
    "size": OwnFunction(Function(WHOLE, arguments=1), (TEXT | LIST | MAP,), _size),
    "string": OwnFunction(
        Function(TEXT, arguments=1), (TEXT | NUMBERS | FLAG | TIME | SPAN,), _string
    ),
}
"""What vendors' formats need and CEL lacks, and two functions of CEL: `string` writes times as they
are sent, and true and false, which the library does not; `size` needs no copy of a list."""
COALESCE = "coalesce"
"""The function that gives the first of its arguments that is there."""
