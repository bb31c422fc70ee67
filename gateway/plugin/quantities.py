"""Durations, sizes and rates: from their text in the configuration to numbers, and back."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator

SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0
KIB, MIB, GIB = 1024, 1024**2, 1024**3

DURATIONS = {"ms": 0.001, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
SIZES = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": KIB,
    "MiB": MIB,
    "GiB": GIB,
}
RATES = {"s": SECOND, "m": MINUTE, "h": HOUR}

QuantityKind = Literal["duration", "size", "rate"]

_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(\D*?)\s*")


def duration(value: object) -> object:
    """Return a duration in seconds: ``"500ms"``, ``"10s"``, ``"5m"``, ``"2h"``, ``"7d"``, ``10``.

    Raises:
        ValueError: it is not a duration.
    """
    number, unit = _split(value)
    if number is None or unit not in {"", *DURATIONS}:
        raise ValueError('is not a duration; write "500ms", "10s", "5m", "2h", "7d", or seconds')
    return number * DURATIONS.get(unit, SECOND)


def size(value: object) -> object:
    """Return a size in bytes: ``"1MiB"``, ``"10GiB"``, ``"500kB"``, ``4096``.

    Raises:
        ValueError: it is not a size, or not a whole number of bytes.
    """
    number, unit = _split(value)
    if number is None or unit not in {"", *SIZES}:
        raise ValueError('is not a size; write "500kB", "1MiB", "10GiB", or a number of bytes')
    count = number * SIZES.get(unit, 1)
    if count != int(count):
        raise ValueError("is not a whole number of bytes; write a rounder size")
    return int(count)


def rate(value: object) -> object:
    """Return a rate per second: ``"50/s"``, ``"600/m"``, ``"1000/h"``, ``50``.

    Raises:
        ValueError: it is not a rate.
    """
    number, unit = _split(value)
    per = unit.removeprefix("/").strip()
    if number is None or unit not in {"", f"/{per}", f"/ {per}"} or (unit and per not in RATES):
        raise ValueError('is not a rate; write "50/s", "600/m", "1000/h", or a number per second')
    return number / RATES.get(per, SECOND)


def _split(value: object) -> tuple[float | None, str]:
    """Return number and unit of *value*; None as number if it has none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value), "") if 0 <= value < float("inf") else (None, "")
    found = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    return (float(found[1]), found[2]) if found else (None, "")


def shown(value: float, kind: QuantityKind) -> str:
    """Return a quantity as text for the configuration, in the largest unit that fits."""
    if kind == "rate":
        return f"{value:g}/s"
    units = DURATIONS if kind == "duration" else {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
    fitting = [(n, u) for u, n in units.items() if value >= n and (value / n).is_integer()]
    number, unit = max(fitting, default=(1, "s" if kind == "duration" else "B"))
    return f"{value / number:g}{unit}"


class Quantity:
    """Marks a setting that is written as a quantity."""

    def __init__(self, kind: QuantityKind) -> None:
        self.kind = kind


Duration = Annotated[float, BeforeValidator(duration), Quantity("duration")]
"""A setting in seconds, written as ``"500ms"``, ``"10s"``, ``"5m"``, ``"2h"``, or a number."""
Size = Annotated[int, BeforeValidator(size), Quantity("size")]
"""A setting in bytes, written as ``"500kB"``, ``"1MiB"``, or a number."""
Rate = Annotated[float, BeforeValidator(rate), Quantity("rate")]
