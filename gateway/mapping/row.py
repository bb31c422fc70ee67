"""One field, as the vendor spells it and as the event does."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from gateway.mapping.codecs import AS_IS, Codec

CONSUMED = ""
"""The event side of a row that is not passed on, such as a credential."""


@dataclass(frozen=True, slots=True)
class Row:
    """One field, as the vendor spells it and as the event does.

    Attributes:
        wire: dotted path in the vendor's payload. ``"sid|seance"`` lists synonyms: the first
            present is read, the first named is written. ``"properties.*"`` means whatever no
            other row of the table claims there.
        event: dotted path in the event. ``"properties.products[0].price"`` is the only
            product of an event about one; ``"traits.extra.city"`` is a key of a mapping.
        codec: how the value changes shape.
        required: without it the payload is refused, and the event cannot be written.
        note: what a reader of the generated documentation should know.
    """

    wire: str
    event: str
    codec: Codec = AS_IS
    required: bool = False
    note: str = ""

    @property
    def synonyms(self) -> list[str]:
        """Return the paths of ``wire``, the one that is written first."""
        return self.wire.split("|")


def within(wire: str, event: str, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield *rows* as they read from one level up, on both sides."""
    for row in rows:
        yield replace(
            row,
            wire="|".join(_join(wire, path) for path in row.synonyms),
            event=_join(event, row.event) if row.event else CONSUMED,
        )


def _join(above: str, below: str) -> str:
    return f"{above}.{below}" if above else below
