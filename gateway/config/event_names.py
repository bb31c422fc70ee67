"""Names of events in routes: misspelt ones, and a vendor's words for neutral names."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gateway.config.problems import Report
from gateway.config.routing import RouteConfig
from gateway.event import EVENT_TYPES, VOCABULARY
from gateway.mapping import Mapped, Switch
from gateway.plugins import Registry
from gateway.words import nearest

WILD: Final = frozenset("*?[")
CLOSE: Final = 0.85
"""How much a name must resemble a neutral one to be taken for a slip, of 1."""


def check(routes: Sequence[RouteConfig], registry: Registry, report: Report) -> None:
    """Warn of names in *routes* by which no event is known; a name of somebody's own is no mistake.

    Args:
        routes: in the order of the file, without those that have problems.
        registry: the vendors, whose words are told from neutral names.
        report: takes the warnings.
    """
    words = vendors_words(registry)
    for number, route in enumerate(routes, start=1):
        for name in route.names or ():
            if (doubt := _doubt(name, words)) is not None:
                report.warning(f"routes.{number}", "names", doubt)


def vendors_words(registry: Registry) -> dict[str, tuple[str, str]]:
    """Return words of the vendors' own to the vendor, and to what its events are called here."""
    found: dict[str, tuple[str, str]] = {}
    for vendor, reads in registry.inputs.items():
        said = dict(reads.words)
        for mapped in reads.endpoints.values():
            said |= dict(_words(mapped))
        for word, name in said.items():
            if name not in EVENT_TYPES:
                found.setdefault(word, (vendor, name))
    return found


def _doubt(name: str, words: Mapping[str, tuple[str, str]]) -> str | None:
    if name in VOCABULARY or not WILD.isdisjoint(name):
        return None
    if name in words:
        vendor, neutral = words[name]
        return (
            f"{name!r} is {vendor}'s word for what is called {neutral!r} here; write that, unless "
            f"another source's events are really called so"
        )
    hint = nearest(name, VOCABULARY, CLOSE, only=True)
    return f"{name!r} is nearly a neutral name, and not one; {hint}" if hint else None


def _words(mapped: Mapped) -> Iterator[tuple[str, str]]:
    inner = getattr(mapped, "each", None)
    if inner is not None:
        yield from _words(inner[1])
    if isinstance(mapped, Switch):
        for word, table in mapped.tables.items():
            if table.says != "track":
                yield word, table.says
