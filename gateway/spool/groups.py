"""Dead letters that are alike: given up for the same reason, but for the numbers in it."""

import re

import msgspec

from gateway.spool.values import Cause

LONGEST = 200
"""Characters of a reason by which dead letters are grouped."""
_NUMBERS = re.compile(r"\d+")


class LetterGroup(msgspec.Struct, frozen=True):
    """Dead letters of one destination that were given up for the same reason, numbers aside."""

    destination: str
    cause: Cause
    alike: str
    """What their reasons have in common: the first 200 characters, with ``#`` for numbers."""
    reason: str
    """One of them, as it is."""
    count: int
    first: float
    """Unix seconds at which the oldest of them was given up."""
    last: float
    newest: int
    """The highest id."""


def alike(reason: str) -> str:
    """Return what a reason has in common with those that differ from it in numbers only."""
    return _NUMBERS.sub("#", reason)[:LONGEST]
