"""Warn about event names in routes: misspelt names, and a vendor's words for neutral names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final

from gateway.config.loader.report import ConfigReport
from gateway.config.models import RouteConfig
from gateway.event import EVENT_TYPES, VOCABULARY
from gateway.mapping import EventMapping, Switch
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.spec_spellings import SPELT, spec_name
from gateway.suggestions import did_you_mean

WILD: Final = frozenset("*?[")
CLOSE: Final = 0.85
"""How similar to a neutral name a name must be to count as misspelt, from 0 to 1."""
KNOWN: Final = VOCABULARY | SPELT
_SIGNS: Final = re.compile(r"[^a-z0-9]+")


def _folded(name: str) -> str:
    return _SIGNS.sub("", name.lower())


FOLDED: Final = {_folded(name): name for name in KNOWN}


def check(routes: Sequence[RouteConfig], registry: PluginRegistry, report: ConfigReport) -> None:
    """Warn about *names* of routes that match no known event. A custom name is no mistake.

    Args:
        routes: the valid routes, in the order of the file.
        registry: the vendors, whose words are recognised.
        report: gets the warnings.
    """
    words = vendors_words(registry)
    for number, route in enumerate(routes, start=1):
        for name in route.names or ():
            if (doubt := _doubt(name, words)) is not None:
                report.warning(f"routes.{number}", "names", doubt)


def vendors_words(registry: PluginRegistry) -> dict[str, tuple[str, str]]:
    """Return the vendors' own words, each with its vendor and its neutral name."""
    found: dict[str, tuple[str, str]] = {}
    for vendor, reads in registry.inputs.items():
        said = dict(reads.words)
        for mapped in reads.endpoints.values():
            said |= dict(_words(mapped))
        for word, name in said.items():
            if word not in EVENT_TYPES:
                found.setdefault(word, (vendor, name))
    return found


def _doubt(name: str, words: Mapping[str, tuple[str, str]]) -> str | None:
    if name in KNOWN:
        return None
    if not WILD.isdisjoint(name):
        return _doubt_of_pattern(name, words)
    if name in words:
        return _word_of(name, *words[name])
    kind = next((kind for kind in EVENT_TYPES if kind == name.lower()), None)
    if kind is not None:
        return f'{name!r} is a type of events, not a name; write types = ["{kind}"]'
    neutral = FOLDED.get(_folded(name)) or spec_name(name)
    if neutral != name:
        return f"{name!r} is not a neutral name; write {neutral!r}: case and signs matter"
    close = get_close_matches(_folded(name), FOLDED, 1, CLOSE)
    if not close:
        return None
    return f"{name!r} is not a neutral name; did you mean {FOLDED[close[0]]}?"


def _word_of(name: str, vendor: str, neutral: str) -> str:
    if neutral in EVENT_TYPES:
        return (
            f"{name!r} is {vendor}'s word for events of type {neutral}; write "
            f'types = ["{neutral}"], unless another source sends events with this name'
        )
    return (
        f"{name!r} is {vendor}'s word for {neutral!r}; write the neutral name, unless another "
        f"source sends events with this name"
    )


def _doubt_of_pattern(name: str, words: Mapping[str, tuple[str, str]]) -> str | None:
    """Return why the pattern *name* matches no neutral name; None if it matches one."""
    if any(fnmatchcase(known, name) for known in KNOWN):
        return None
    for word, (vendor, neutral) in words.items():
        if fnmatchcase(word, name):
            return (
                f"{name!r} is a pattern that matches no neutral name: "
                f"{_word_of(word, vendor, neutral)}"
            )
    for known in sorted(KNOWN):
        if fnmatchcase(known.lower(), name.lower()):
            return f"{name!r} is a pattern that does not match {known!r}: case matters"
    parts = {part for known in KNOWN for part in known.split()}
    for part in re.findall(r"[A-Za-z]{4,}", name):
        if part not in parts and (hint := did_you_mean(part, parts, CLOSE, only=True)):
            return f"{name!r} is a pattern that matches no neutral name; {hint}"
    return None


def _words(mapped: EventMapping) -> Iterator[tuple[str, str]]:
    inner = getattr(mapped, "items", None)
    if inner is not None:
        yield from _words(inner[1])
    if isinstance(mapped, Switch):
        for word, table in mapped.tables.items():
            if table.event != "track" and " " not in word:  # else it describes a shape
                yield word, table.event
