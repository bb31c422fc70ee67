"""``gateway losses``."""

from collections import Counter
from collections.abc import Collection, Iterator

import click
import orjson

from gateway.cli.output import console, table, title
from gateway.losses.field_outcomes import reason_of
from gateway.losses.full_events import full_events
from gateway.losses.vendor_pairs import EventLosses, Pair, pairs, vendors
from gateway.plugin.registry import load_plugins
from gateway.suggestions import did_you_mean

FEW = 3
"""How many kinds of events are listed; of more, the number is."""


@click.command("losses")
@click.option("--from", "source", metavar="VENDOR", help="Whose events.")
@click.option("--to", "target", metavar="VENDOR", help="Where they go.")
@click.option("--event", metavar="NAME", help='Of this kind only, such as "Order Completed".')
@click.option("--json", "as_json", is_flag=True, help="Every field of every kind, as JSON.")
def losses(source: str | None, target: str | None, event: str | None, *, as_json: bool) -> None:
    """Show which fields of which events are lost between vendors.

    It is computed from the vendors' tables: each event has every field that its vendor's clients
    can send. With --from and --to the fields are named; `gateway translate` tells of one request.
    """
    registry = load_plugins()
    known = vendors(registry)
    for name in (source, target):
        if name is not None and name not in known:
            what = f"there is no vendor {name!r} that both reads and writes"
            raise click.UsageError(f"{what}; {did_you_mean(name, known)}")
    found = {
        pair: {kind: told for kind, told in kinds.items() if event in {None, kind}}
        for pair, kinds in pairs(registry, source, target).items()
    }
    if event is not None and not any(found.values()):
        kinds = [kind for kind, _ in full_events()]
        raise click.UsageError(
            f"no vendor asked about says {event!r}; {did_you_mean(event, kinds)}"
        )
    if as_json:
        click.echo(_json(found))
    elif source and target:
        _print_pair(source, target, found[source, target])
    else:
        rows = [(*pair, *_sums(kinds)) for pair, kinds in found.items()]
        columns = ("from", "to", "events", "declined", "kept", "coerced", "lost")
        console().print(table(columns, rows))


def _json(found: dict[tuple[str, str], Pair]) -> str:
    told = [
        {
            "from": source,
            "to": target,
            "events": {
                kind: {"declined": told.declined} if told.declined else dict(told.fields)
                for kind, told in kinds.items()
            },
        }
        for (source, target), kinds in found.items()
    ]
    return orjson.dumps(told, option=orjson.OPT_INDENT_2).decode()


def _sums(kinds: Pair) -> tuple[str, ...]:
    total = Counter[str]()
    for told in kinds.values():
        total.update(told.counts())
    declined = sum(bool(told.declined) for told in kinds.values())
    numbers = (len(kinds), declined, total["kept"], total["coerced"], total["lost"])
    return tuple(map(str, numbers))


def _print_pair(source: str, target: str, kinds: Pair) -> None:
    out = console()
    out.print(title(f"{source} to {target}: fields of each event that {source}'s clients can send"))
    rows = [(kind, *_numbers(told)) for kind, told in kinds.items()]
    out.print(table(("event", "kept", "coerced", "lost"), rows))
    fields, reasons = list(_fields(kinds)), list(_reasons(kinds))
    if fields:
        out.print(title("\nWhat does not arrive as it is"))
        out.print(table(("field", "", "in"), fields))
    if reasons:
        out.print(title("\nWhat is declined"))
        out.print(table(("events", "why"), reasons))
    if kinds and not fields and not reasons:
        out.print(title("\nNothing is lost"))


def _numbers(told: EventLosses) -> tuple[str, ...]:
    if told.declined:
        return "", "declined", ""
    count = told.counts()
    return tuple(str(count[how]) for how in ("kept", "coerced", "lost"))


def _reasons(kinds: Pair) -> Iterator[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for kind, told in kinds.items():
        if told.declined:
            found.setdefault(reason_of(told.declined), []).append(kind)
    for why, declined in found.items():
        yield ", ".join(declined) if len(declined) <= FEW else f"{len(declined)} of them", why


def _fields(kinds: Pair) -> Iterator[tuple[str, str, str]]:
    carried = {kind: told for kind, told in kinds.items() if not told.declined}
    every = dict.fromkeys(field for told in carried.values() for field in told.fields)
    for how in ("lost", "coerced"):
        for field in every:
            within = [kind for kind, told in carried.items() if told.fields.get(field) == how]
            if within:
                yield field, how, _where(within, carried)


def _where(within: Collection[str], carried: Collection[str]) -> str:
    if len(within) == len(carried):
        return "every event"
    if len(within) <= FEW:
        return ", ".join(within)
    return f"{len(within)} of {len(carried)} kinds of events"
