"""``gateway shadow``: report what shadow destinations would have received, and reset the report."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.padding import Padding

from gateway.cli.completion import complete_configured
from gateway.cli.options import config_option
from gateway.cli.output import RedactingConsole, console, table, title
from gateway.cli.text import say
from gateway.config.loader.load import load_spool
from gateway.losses.field_outcomes import spellings, spelt
from gateway.plugin.registry import load_plugins
from gateway.shadow.report import EventLine, FieldLine, ShadowReport, Spelt, report
from gateway.shadow.store import ShadowStore
from gateway.shadow.tally import Count, Key
from gateway.spool.dead_letters import format_time
from gateway.suggestions import check_name

Rows = Sequence[tuple[str, ...]]

MAX_NAMES = 3
"""Names of events that are listed for a reason."""


@click.group("shadow")
def shadow() -> None:
    """Report what shadow destinations would have received and lost."""


@shadow.command("report")
@config_option
@click.option(
    "--destination",
    metavar="NAME",
    shell_complete=complete_configured("destinations"),
    help="Only this shadow.",
)
@click.option(
    "--accept",
    "accepted",
    metavar="PATTERN",
    multiple=True,
    help='A field or event that need not arrive, such as "context.*". May be repeated.',
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.option(
    "--exit-code",
    "judges",
    is_flag=True,
    help="Exit with 1 unless every shadow is safe to switch to.",
)
def report_(
    path: Path, destination: str | None, accepted: Sequence[str], *, as_json: bool, judges: bool
) -> None:
    """Report what would arrive, and whether it is safe to switch.

    Lists events and fields, per shadow destination.
    The gateway may be running; it updates the report's counts once a second.
    """
    file = ShadowStore(load_spool(path).path)
    counts = _by_destination(file.read())
    if destination is not None and destination not in counts:
        check_name("shadow", destination, {*counts, *file.names()})
        counts[destination] = {}
    wire_name = _wire_names()
    reports = [
        report(name, sums, wire_name, accepted)
        for name, sums in counts.items()
        if destination in {None, name}
    ]
    if as_json:
        click.echo(orjson.dumps([_json(found) for found in reports], option=orjson.OPT_INDENT_2))
    elif not reports:
        click.echo("no shadow has seen an event yet; set shadow = true in a [destinations.*] table")
    else:
        out = console()
        for found in reports:
            _print(found, out)
    if judges and not (reports and all(map(_safe, reports))):
        raise click.exceptions.Exit(1)


@shadow.command("reset")
@config_option
@click.option(
    "--destination",
    metavar="NAME",
    shell_complete=complete_configured("destinations"),
    help="Only this shadow.",
)
def reset(path: Path, destination: str | None) -> None:
    """Delete the report's counts.

    Use it to start again, for example after a change of routes.
    """
    file = ShadowStore(load_spool(path).path)
    if destination is not None:
        known = {*_by_destination(file.read()), *file.names()}
        check_name("shadow", destination, known)
    cleared = file.clear(destination)
    click.echo("the counts were deleted" if cleared else "there was nothing to delete")


def _by_destination(counts: Mapping[Key, Count]) -> dict[str, dict[Key, Count]]:
    found: dict[str, dict[Key, Count]] = {}
    for key, count in counts.items():
        found.setdefault(key.destination, {})[key] = count
    return found


def _wire_names() -> Spelt:
    registry = load_plugins()
    known = {name: spellings(reads()) for name, reads in registry.inputs.items()}
    return lambda vendor, field: spelt(field, known.get(vendor, {}))


def _json(found: ShadowReport) -> dict[str, object]:
    plain = found._asdict()
    for key in ("events", "fields", "responses", "comparisons"):
        plain[key] = [line._asdict() for line in plain[key]]
    return {**plain, "safe": _safe(found), "verdict": found.verdict}


def _print(found: ShadowReport, out: RedactingConsole) -> None:
    out.print(title(found.destination))
    say(out, 2, found.verdict, style="green" if _safe(found) else "yellow")
    if found.seen:
        events = "1 event" if found.seen == 1 else f"{found.seen} events"
        out.print(f"  {events}, from {format_time(found.first)} to {format_time(found.last)} UTC")
    if found.skipped:
        what = f"{found.skipped} more were skipped: they came faster than they can be compared"
        say(out, 2, what)
    for heading, columns, rows in _events(found):
        _table(heading, columns, rows, out)
    if found.fields:
        out.print(title(f"\n  Lost or coerced fields ({found.kept} others are kept)"))
    for (kind, reason), lines in _by_reason(found.fields).items():
        say(out, 2, f"{kind}: {reason}", style="yellow")
        rows = [_field(line) for line in lines]
        out.print(Padding(table(("field", "sent as", "of events", "example"), rows), (0, 0, 0, 2)))
    for heading, columns, rows in _responses(found):
        _table(heading, columns, rows, out)
    out.print()


def _table(heading: str, columns: Sequence[str], rows: Rows, out: Console) -> None:
    out.print(title(f"\n  {heading}"))
    made = table(columns, rows)
    made.columns[0].no_wrap = True
    out.print(made)


def _events(found: ShadowReport) -> Iterator[tuple[str, Sequence[str], Rows]]:
    if found.events:
        columns = ("event", "source vendor", "seen", "would arrive")
        yield "Events", columns, [_event(line) for line in found.events]
    if reasons := _reasons(found.events):
        yield "Why events would not arrive", ("events", "reason", "names"), reasons


def _by_reason(lines: Sequence[FieldLine]) -> dict[tuple[str, str], list[FieldLine]]:
    """Return the fields by kind and reason, in the order of their first fields."""
    found: dict[tuple[str, str], list[FieldLine]] = {}
    for line in lines:
        found.setdefault((line.kind, line.reason), []).append(line)
    return found


def _responses(found: ShadowReport) -> Iterator[tuple[str, Sequence[str], Rows]]:
    columns: Sequence[str]
    if found.responses:
        answers = [(str(line.number), line.outcome, line.reason) for line in found.responses]
        yield "Responses of the test account", ("events", "response", "reason"), [*answers]
    if found.comparisons:
        rows = [
            (str(line.number), line.destination, line.outcome, line.test_account)
            for line in found.comparisons
        ]
        columns = ("events", "destination", "outcome there", "outcome in the test account")
        yield "The same events at the destinations that really got them", columns, [*rows]


def _safe(found: ShadowReport) -> bool:
    return bool(found.seen) and not found.open


def _event(line: EventLine) -> tuple[str, ...]:
    return _marked(line.event, line.accepted), line.vendor, str(line.seen), str(line.arriving)


def _reasons(lines: Sequence[EventLine]) -> list[tuple[str, ...]]:
    numbers: Counter[str] = Counter()
    which: dict[str, list[str]] = {}
    for line in lines:
        for why, number in line.reasons:
            numbers[why] += number
            which.setdefault(why, []).append(line.event)
    return [(str(number), why, _listed(which[why])) for why, number in numbers.most_common()]


def _field(line: FieldLine) -> tuple[str, ...]:
    number = f"{line.number} of {line.total}"
    name = _marked(line.field, line.accepted)
    return name, line.sent_as, number, line.example


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _marked(name: str, accepted: bool) -> str:  # noqa: FBT001 - clear in its two calls
    return f"{name} (accepted)" if accepted else name
