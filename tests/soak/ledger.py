"""The obligation ledger: compare acknowledged events with what happened to them."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gateway.delivery.worker import ISOLATED_ATTEMPTS
from gateway.spool import QueueDepth
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.spool.sqlite.spool import SqliteSpool
from tests.soak.marks import EventMark, marks_in
from tests.soak.vendor import Vendor

PAGE = 1000
NOTHING: Mapping[str, Collection[EventMark]] = {}
FEWEST_ATTEMPTS = min(ISOLATED_ATTEMPTS.values())
"""Attempts after which the gateway may give up an event, if others succeed meanwhile."""
SHOWN = 5
"""Number of examples in a complaint."""


class Count(NamedTuple):
    """The counts of one destination."""

    routed: int
    delivered: int
    dead: int
    declined: int
    lost: int
    duplicates: int
    disordered: int


@dataclass
class Judgement:
    """The ledger's result; without complaints the run is good."""

    counts: dict[str, Count] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    @property
    def duplicates(self) -> int:
        """Return the number of superfluous deliveries."""
        return sum(count.duplicates for count in self.counts.values())

    def table(self) -> str:
        """Return the counts as text."""
        head = f"{'destination':14}" + "".join(f"{name:>12}" for name in Count._fields)
        rows = [
            f"{name:14}" + "".join(f"{value:12}" for value in count)
            for name, count in self.counts.items()
        ]
        return "\n".join([head, *rows, *self.complaints])


def owed(acknowledged: Iterable[EventMark], destination: str) -> set[EventMark]:
    """Return the events that *destination* must have received or have as dead letters."""
    return {mark for mark in acknowledged if destination not in mark.declined_by}


def dead_letters(spool: Path) -> dict[str, Counter[EventMark]]:
    """Return each destination's dead letters; the spool may be in use."""
    found: dict[str, Counter[EventMark]] = {}
    with DeadLetterStore(spool) as box:
        after = 0
        while page := box.dead_letters(after=after, limit=PAGE):
            for letter in page:
                mark = marks_in(letter.entry.request.body)[letter.index]
                found.setdefault(letter.destination, Counter())[mark] += 1
            after = page[-1].id
    return found


def unbalanced(spool: Path) -> list[str]:
    """Return a complaint per destination whose balance in the spool is wrong."""
    with DeadLetterStore(spool) as box:
        balances = box.balances()
    return [
        f"{name}: {balance.unaccounted} unaccounted for: {balance}"
        for name, balance in balances.items()
        if balance.unaccounted
    ]


def repeated(vendors: Iterable[Vendor]) -> list[str]:
    """Return a complaint per vendor that got duplicates; only a crash may cause them."""
    twice = {
        vendor.name: {mark for mark, times in vendor.accepted.items() if times > 1}
        - vendor.unanswered
        for vendor in vendors
    }
    return [
        f"{name}: {len(marks)} accepted more than once before any crash: {_examples(marks)}"
        for name, marks in twice.items()
        if marks
    ]


async def left_over(spool: Path) -> dict[str, QueueDepth]:
    """Return the destinations with something pending; the spool must not be in use."""
    opened = SqliteSpool(spool)
    await opened.open()
    try:
        depths = await opened.depths()
    finally:
        await opened.close()
    return {n: d for n, d in depths.items() if d.backlog or d.retrying or d.parked}


def judge(
    acknowledged: Collection[EventMark],
    unsure: Collection[EventMark],
    vendors: Iterable[Vendor],
    dead: Mapping[str, Counter[EventMark]],
    *,
    once: bool = False,
    ordered: bool = True,
    perhaps: Mapping[str, Collection[EventMark]] = NOTHING,
) -> Judgement:
    """Compare acknowledged events with what vendors accepted and with the dead letters.

    Args:
        acknowledged: events whose sender got a success response.
        unsure: events without a response; they may have been accepted.
        vendors: the destinations.
        dead: dead letters by destination.
        once: require that each event ended only once, as it must without a crash.
        ordered: require each user's order: every event was sent after the response to the one
            before. Excused are events that a vendor first refused and then accepted after a crash
            or a replay, that it failed so often that the gateway may have given them up, and events
            without a response.
        perhaps: by destination, events that came while it was removed and put back; they may or
            may not arrive there.
    """
    verdict = Judgement()
    for vendor in vendors:
        letters = dead.get(vendor.name, Counter())
        routed = owed(acknowledged, vendor.name)
        open_ = set(perhaps.get(vendor.name, ()))
        must = routed - open_
        accepted = vendor.accepted
        ended = accepted.keys() | letters.keys()
        late = set(disordered(accepted))
        late -= vendor.refused | vendor.unwelcome | vendor.unanswered | set(unsure)
        late -= {mark for mark in late if vendor.failed[mark] >= FEWEST_ATTEMPTS}
        verdict.counts[vendor.name] = Count(
            routed=len(acknowledged),
            delivered=sum(1 for mark in must if mark in accepted),
            dead=sum(1 for mark in must if mark in letters and mark not in accepted),
            declined=len(acknowledged) - len(routed),
            lost=len(must - ended),
            duplicates=accepted.total() - len(accepted),
            disordered=len(late),
        )
        twice = {mark for mark, times in (accepted + letters).items() if times > 1}
        twice -= vendor.unanswered
        for what, marks, matters in (
            ("lost", must - ended, True),
            ("never sent by the client", ended - must - open_ - set(unsure), True),
            ("ended more than once", twice, once),
            ("out of order", late, ordered),
        ):
            if marks and matters:
                verdict.complaints.append(f"{vendor.name}: {len(marks)} {what}: {_examples(marks)}")
    return verdict


def _examples(marks: Iterable[EventMark]) -> str:
    return ", ".join(mark.text for mark in sorted(marks)[:SHOWN])


def disordered(accepted: Iterable[EventMark]) -> list[EventMark]:
    """Return the events that arrived after a later one of their user.

    *accepted* is in order of arrival.
    """
    last: dict[int, int] = {}
    late = []
    for mark in accepted:
        if mark.number < last.get(mark.user, 0):
            late.append(mark)
        last[mark.user] = max(mark.number, last.get(mark.user, 0))
    return late
