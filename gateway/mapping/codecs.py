"""Conversions of single values between a vendor's format and the event."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from msgspec import to_builtins
from pydantic import TypeAdapter, ValidationError

from gateway.json_text import LEAST, MOST, LongNumber

_DATETIME: Final = TypeAdapter(datetime)
MILLIS: Final = len("2026-01-02T03:04:05.000")


@dataclass(frozen=True, slots=True)
class Codec:
    """A named pair of inverse functions; `ValueError` means invalid input.

    Attributes:
        name: name of the conversion in the documentation; empty if there is none.
        decode: converts the vendor's value to the event's.
        encode: converts the event's value to the vendor's.
        gives: classes that ``decode`` returns, for the check against the event's types; empty if it
            returns its argument.
        keeps: classes whose values ``decode`` returns as they came; it is not called for them.
    """

    name: str
    decode: Callable[[Any], Any]
    encode: Callable[[Any], Any]
    gives: tuple[type, ...] = ()
    keeps: tuple[type, ...] = ()


def unchanged(value: Any) -> Any:
    """Return *value*: the half of a codec that converts nothing, which tables leave out."""
    return value


def _number(value: Any) -> float:
    kind = type(value)
    if kind is float or kind is int:
        return value  # type: ignore[no-any-return]  # it is one of these
    if isinstance(value, str):
        text = value.strip()
        if "_" in text:
            raise ValueError("must be a number")
        try:
            whole = int(text)
        except ValueError:
            return _finite(text)
        return whole if LEAST <= whole <= MOST else _finite(text)
    if isinstance(value, LongNumber):
        return _finite(value.text)
    return value  # type: ignore[no-any-return]  # the row's wire type says it is a number


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise ValueError("must be a number") from error
    if number - number != 0:
        raise ValueError("must be a finite number")
    return number


def _integer(value: Any) -> int:
    number = _number(value)
    if not LEAST <= number <= MOST:
        raise ValueError("must have at most 64 bits")
    if number != int(number):
        raise ValueError("must be a whole number")
    return int(number)


def _text(value: Any) -> str:
    return value if type(value) is str else str(value)


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError("must be an ISO 8601 time") from error
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError("must be a time in the years 1 to 9999") from error


def _as_pydantic_reads(value: Any) -> datetime:
    try:
        moment = _DATETIME.validate_python(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValidationError, OverflowError) as error:
        raise ValueError(f"is not a valid time: {value!r}") from error


@lru_cache(maxsize=64)
def _iso(moment: datetime) -> str:
    """Return *moment* as text; the last ones are remembered, for an event's other destinations."""
    moment = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    text: str = to_builtins(moment)  # an eighth of isoformat's time
    return f"{text[:MILLIS]}Z" if len(text) > MILLIS else f"{text[:-1]}.000Z"


def _iso_exact(moment: datetime) -> str:
    return to_builtins(moment.astimezone(UTC)) if moment.microsecond % 1000 else _iso(moment)


def _from_epoch(scale: int) -> Callable[[Any], datetime]:
    def decode(value: Any) -> datetime:
        try:
            return datetime.fromtimestamp(_number(value) / scale, UTC)
        except (OverflowError, OSError) as error:
            raise ValueError("must be a time in the years 1 to 9999") from error

    return decode


AS_IS = Codec("", unchanged, unchanged)
"""The value stays unchanged; the default of a row."""
TEXT = Codec("text or number", _text, unchanged, (str,), keeps=(str,))
"""An id that some clients send as a number; written as text."""
NUMBER = Codec("number or numeric text", _number, unchanged, (int, float), keeps=(int, float))
"""A number that some clients send as text, such as ``"59.90"``; written as a number."""
INTEGER = Codec("whole number", _integer, round, (int,))
"""A whole number of at most 64 bits; fractions are rounded when written."""
ISO8601_OR_UNIX = Codec("ISO 8601, or Unix time in s or ms", _as_pydantic_reads, _iso, (datetime,))
"""Any value that pydantic accepts as datetime, for servers that use pydantic."""
ISO8601 = Codec("ISO 8601, UTC if it names no zone", _instant, _iso, (datetime,))
"""A time such as ``"2026-01-02T03:04:05.000Z"``; written in UTC with milliseconds."""
ISO8601_EXACT = Codec(ISO8601.name, ISO8601.decode, _iso_exact, (datetime,))
"""The same; written with microseconds if it has any."""
EPOCH_SECONDS = Codec("Unix time in s", _from_epoch(1), lambda t: int(t.timestamp()), (datetime,))
"""Seconds since 1970, as a number or a numeric text; written as whole seconds."""
EPOCH_MILLIS = Codec(
    "Unix time in ms", _from_epoch(1000), lambda t: int(t.timestamp() * 1000), (datetime,)
)
"""Milliseconds since 1970, as a number or a numeric text; written as whole milliseconds."""


def vocabulary(theirs_to_ours: Mapping[str, str], label: str = "names") -> Codec:
    """Return a codec that translates names; unknown names stay unchanged.

    If several names of the vendor mean the same, the first one is written.
    """
    ours_to_theirs: dict[str, str] = {}
    for theirs, ours in theirs_to_ours.items():
        ours_to_theirs.setdefault(ours, theirs)
    return Codec(
        label,
        lambda word: theirs_to_ours.get(word, word),
        lambda word: ours_to_theirs.get(word, word),
        (str,),
    )


def constant(value: Any) -> Codec:
    """Return a codec that always writes *value*, for a field that only has the payload's kind."""
    return Codec(f"always {value!r}", lambda _: value, lambda _: value)
