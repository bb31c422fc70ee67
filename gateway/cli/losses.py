"""``gateway losses``: which fields of an event are lost between vendors."""

from collections import Counter
from collections.abc import Collection, Iterator

import click
import orjson

from gateway.cli.completion import complete_inputs, complete_outputs
from gateway.cli.output import console, table, title
from gateway.errors import UnknownName
from gateway.losses.field_outcomes import reason_of
from gateway.losses.full_events import full_events
from gateway.losses.vendor_pairs import EventLosses, Pair, pairs, vendors
from gateway.plugin.registry import load_plugins
from gateway.suggestions import check_name

MAX_NAMES = 3
"""Up to this many names of events are listed; above it, their number is printed."""


@click.command("losses")
@click.option(
    "--from",
    "source",
    metavar="VENDOR",
    shell_complete=complete_inputs,
    help="Only events of this vendor.",
)
@click.option(
    "--to",
    "target",
    metavar="VENDOR",
    shell_complete=complete_outputs,
    help="Only events sent to this vendor.",
)
@click.option("--event", metavar="NAME", help='Only this event, such as "Order Completed".')
@click.option("--json", "as_json", is_flag=True, help="Print every field of every event as JSON.")
def losses(source: str | None, target: str | None, event: str | None, *, as_json: bool) -> None:
    """Show which fields are lost between vendors, by event.

    Computed from the vendors' tables, for events with every field that the vendor's clients can
    send. With --from and --to the fields are listed. For one request, use `gateway translate`.
    """
    registry = load_plugins()
    known = vendors(registry)
    for name in (source, target):
        if name is not None:
            check_name("vendor", name, known, more=" that both reads and writes")
    found = {
        pair: {kind: losses for kind, losses in kinds.items() if event in {None, kind}}
        for pair, kinds in pairs(registry, source, target).items()
    }
    if event is not None and not any(found.values()):
        check_name("event", event, [kind for kind, _ in full_events()])
        raise UnknownName(f"there is no event {event!r} between these vendors")
    if as_json:
        click.echo(_json(found))
    elif source and target:
        _print_pair(source, target, found[source, target])
    else:
        rows = [(*pair, *_sums(kinds)) for pair, kinds in found.items()]
        columns = ("from", "to", "events", "declined", "kept", "coerced", "lost")
        console().print(table(columns, rows))


def _json(found: dict[tuple[str, str], Pair]) -> str:
    report = [
        {
            "from": source,
            "to": target,
            "events": {
                kind: {"declined": losses.declined} if losses.declined else dict(losses.fields)
                for kind, losses in kinds.items()
            },
        }
        for (source, target), kinds in found.items()
    ]
    return orjson.dumps(report, option=orjson.OPT_INDENT_2).decode()


def _sums(kinds: Pair) -> tuple[str, ...]:
    total = Counter[str]()
    for losses in kinds.values():
        total.update(losses.counts())
    declined = sum(bool(losses.declined) for losses in kinds.values())
    numbers = (len(kinds), declined, total["kept"], total["coerced"], total["lost"])
    return tuple(map(str, numbers))


def _print_pair(source: str, target: str, kinds: Pair) -> None:
    out = console()
    out.print(title(f"{source} to {target}: fields of each event that {source}'s clients can send"))
    rows = [(kind, *_numbers(losses)) for kind, losses in kinds.items()]
    out.print(table(("event", "kept", "coerced", "lost"), rows))
    fields, reasons = list(_fields(kinds)), list(_reasons(kinds))
    if fields:
        out.print(title("\nLost or coerced fields"))
        out.print(table(("field", "", "in"), fields))
    if reasons:
        out.print(title("\nDeclined events"))
        out.print(table(("events", "reason"), reasons))
    if kinds and not fields and not reasons:
        out.print(title("\nNothing is lost"))


def _numbers(losses: EventLosses) -> tuple[str, ...]:
    if losses.declined:
        return "", "declined", ""
    count = losses.counts()
    return tuple(str(count[how]) for how in ("kept", "coerced", "lost"))


def _reasons(kinds: Pair) -> Iterator[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for kind, losses in kinds.items():
        if losses.declined:
            found.setdefault(reason_of(losses.declined), []).append(kind)
    for why, declined in found.items():
        few = len(declined) <= MAX_NAMES
        yield ", ".join(declined) if few else f"{len(declined)} events", why


def _fields(kinds: Pair) -> Iterator[tuple[str, str, str]]:
    carried = {kind: losses for kind, losses in kinds.items() if not losses.declined}
    every = dict.fromkeys(field for losses in carried.values() for field in losses.fields)
    for how in ("lost", "coerced"):
        for field in every:
            within = [kind for kind, losses in carried.items() if losses.fields.get(field) == how]
            if within:
                yield field, how, _where(within, carried)


def _where(within: Collection[str], carried: Collection[str]) -> str:
    if len(within) == len(carried):
        return "every event"
    if len(within) <= MAX_NAMES:
        return ", ".join(within)
    return f"{len(within)} of {len(carried)} events"
