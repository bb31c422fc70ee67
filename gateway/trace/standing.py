"""How the deliveries of a request stand by the spool, and in which words that is told."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from gateway.letter import Letter, written
from gateway.spool import Owing
from gateway.spool.values import event_of, way_of
from gateway.trace.records import Tried

BEHIND = "it waits behind an earlier event of the same user"
LEFT = "it has left the spool; how it ended was not traced"
WELL = (
    "it has left the spool without trouble: it arrived, or was declined; its request was not "
    "chosen to be traced"
)
UNLESS = "it waits in the spool, unless that gave it up"
EITHER = (
    "it has arrived, or waits in the spool; the request was not chosen, so that only what goes "
    "wrong is traced"
)
REPLAYED = "its dead letter was replayed, and waits for its turn"
DROPPED = (
    "its dead letter is there no more, and nothing of it waits: it was dropped, or its replay was "
    "not traced"
)


class Standing(msgspec.Struct, frozen=True):
    """A delivery of a request that the spool's log still has."""

    event: str
    """The id of its event."""
    destination: str
    route: str
    """The route whose steps it takes; empty where it takes none."""
    way: int
    """How many deliveries of the event the destination gets before this one, by other routes."""
    owed: bool
    """It has not come to its end."""
    next: float | None = None
    """Unix seconds of its next try; null where its turn has not come, or it waits for another. A
    replay's turn comes at once."""
    behind: bool = False
    """It waits behind an earlier event of its user."""


class Held(NamedTuple):
    """What the spool has of one request."""

    letters: Sequence[Letter]
    """Dead letters."""
    standings: Sequence[Standing]


class End(NamedTuple):
    """One event on its way to one destination."""

    destination: str
    route: str
    """The route whose steps it takes; empty where it takes none, or is not known to."""
    tries: Sequence[Tried]
    """In the order in which they happened; none where nothing happened so far."""
    letter: Letter | None
    """Its dead letter, while there is one."""
    standing: Standing | None = None
    """As the spool's log has it; None where that has it no more, or was not asked."""

    @property
    def gone(self) -> bool:
        """Tell whether it was given up, and its dead letter is not there any more."""
        return self.letter is None and bool(self.tries) and self.tries[-1].outcome == "dead"

    @property
    def owed(self) -> bool:
        """Tell whether it has not come to its end, as far as is known."""
        return self.standing is not None and self.standing.owed

    def words(self, *, traced: bool, asked: bool = True) -> str:
        """Return what there is to say of it besides its tries and its letter, if anything.

        It begins in lower case and has no stop.

        Args:
            traced: its request was chosen to be traced.
            asked: the spool could be asked.
        """
        if self.letter is not None or (self.tries and not asked):
            return ""
        if not asked:
            return UNLESS if traced else EITHER
        if self.gone:
            return REPLAYED if self.owed else DROPPED
        if self.tries and self.tries[-1].outcome != "later":
            return ""
        if not self.owed:
            return LEFT if traced or self.tries else WELL
        return self._waiting()

    def _waiting(self) -> str:
        assert self.standing is not None  # noqa: S101 - it is owed
        if self.standing.behind:
            return BEHIND
        if self.standing.next is None:
            return "it waits in the spool for its turn"
        return f"its next try is due at {written(self.standing.next)} UTC"


def standings(owing: Owing | None) -> Iterator[Standing]:
    """Yield how the deliveries of a request stand that the spool's log has."""
    if owing is None:
        return
    entry, waits = owing.entry, owing.waits
    targets = {(to, number) for to, numbers in entry.targets.items() for number in numbers}
    for to, number in sorted(targets | waits.keys()):
        later = waits.get((to, number))
        behind = later is not None and later.parked
        yield Standing(
            event=f"{entry.id}-{event_of(number)}",
            destination=to,
            route=entry.route(to, number),
            way=way_of(number),
            owed=(to, number) in waits,
            next=None if later is None or behind else later.due or None,
            behind=behind,
        )
