"""What is lost between vendors, as it was last agreed to: losses.json.

It has the fields that each vendor's clients send, and per pair of vendors and kind of event the
numbers (kept / coerced / lost) with the fields behind them. Kinds that are alike share a line.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from gateway.losses.vendor_pairs import EventLosses, pairs
from gateway.plugin.registry import load_plugins

FILE = Path(__file__).parent / "losses.json"
RECORD = "python -m tests.expectations"
RANK = ("lost", "coerced", "kept")

Expected = dict[str, dict[str, dict[str, Any]]]
"""Pair, and then kind of event, to its fields with how they arrive, or to ``declined``."""


def computed() -> Expected:
    """Return what is lost now."""
    return {
        f"{source} to {target}": {kind: _plain(told) for kind, told in kinds.items()}
        for (source, target), kinds in pairs(load_plugins()).items()
    }


def _plain(told: EventLosses) -> dict[str, Any]:
    return {"declined": told.declined} if told.declined else dict(told.fields)


def changes(before: Expected, after: Expected) -> tuple[list[str], list[str]]:
    """Return in words what got worse from *before* to *after*, and what else changed."""
    worse: list[str] = []
    other: list[str] = []
    for pair in {**before, **after}:
        old, new = before.get(pair, {}), after.get(pair, {})
        for kind in {**old, **new}:
            bad, rest = _kind(f"{pair}, {kind}", old.get(kind), new.get(kind))
            worse += bad
            other += rest
    return worse, other


def _kind(
    where: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> tuple[list[str], list[str]]:
    if new is None:
        return [f"{where}: can no longer be sent at all"], []
    if old is None:
        return [], [f"{where}: can be sent now"]
    if "declined" in new and "declined" not in old:
        return [f"{where}: is declined now: {new['declined']}"], []
    if "declined" in old:
        return [], [f"{where}: {new.get('declined', 'is delivered now')}"] * (old != new)
    worse: list[str] = []
    other: list[str] = []
    for field in {**old, **new}:
        was, now = old.get(field, "not sent"), new.get(field, "not sent")
        if was != now:
            said = f"{where}: {field} was {was}, is {now}"
            lower = now == "not sent" or (was in RANK and RANK.index(now) < RANK.index(was))
            (worse if lower else other).append(said)
    return worse, other


# The file


def recorded() -> Expected:
    """Return what was agreed to."""
    found = orjson.loads(FILE.read_bytes())
    sends = {vendor: _apart(kinds) for vendor, kinds in found["sends"].items()}
    return {
        pair: {
            kind: _unpacked(packed, sends[pair.partition(" to ")[0]][kind])
            for kind, packed in _apart(kinds).items()
        }
        for pair, kinds in found["pairs"].items()
    }


def record(expected: Expected) -> None:
    """Agree to what is *expected*."""
    sends = {
        pair.partition(" to ")[0]: _together({kind: " ".join(told) for kind, told in kinds.items()})
        for pair, kinds in expected.items()
        if len(set(pair.split(" to "))) == 1
    }
    packed = {
        pair: _together({kind: _packed(told) for kind, told in kinds.items()})
        for pair, kinds in expected.items()
    }
    both = {"sends": sends, "pairs": packed}
    FILE.write_bytes(orjson.dumps(both, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _packed(told: Mapping[str, Any]) -> dict[str, str]:
    if "declined" in told:
        return dict(told)
    by_rank = {how: [field for field, is_ in told.items() if is_ == how] for how in RANK}
    numbers = " / ".join(str(len(by_rank[how])) for how in reversed(RANK))
    listed = {how: " ".join(by_rank[how]) for how in ("coerced", "lost") if by_rank[how]}
    return {"kept / coerced / lost": numbers, **listed}


def _unpacked(packed: Mapping[str, str], sent: str) -> dict[str, str]:
    if "declined" in packed:
        return dict(packed)
    told = {field: how for how in RANK for field in packed.get(how, "").split()}
    return {field: told.get(field, "kept") for field in sent.split()}


def _together(kinds: Mapping[str, Any]) -> dict[str, Any]:
    alike: dict[bytes, list[str]] = {}
    for kind, told in kinds.items():
        alike.setdefault(orjson.dumps(told), []).append(kind)
    return {", ".join(names): orjson.loads(told) for told, names in alike.items()}


def _apart(kinds: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: told for names, told in kinds.items() for kind in names.split(", ")}
