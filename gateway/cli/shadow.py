"""``gateway shadow``: what the destinations saw that only look on."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.text import Text

from gateway.cli.output import config_option, console, table, title
from gateway.config.loader.load import load_spool
from gateway.losses.field_outcomes import NO_PLACE, spellings, spelt
from gateway.plugin.registry import load_plugins
from gateway.shadow.report import EventLine, FieldLine, ShadowReport, Spelt, report
from gateway.shadow.store import ShadowStore
from gateway.shadow.tally import Count, Key
from gateway.spool.dead_letters import format_time
from gateway.suggestions import did_you_mean

FEW = 3
"""How many names of events a reason lists."""


@click.group("shadow")
def shadow() -> None:
    """Say what shadow destinations would have received, and lost."""


@shadow.command("report")
@config_option
@click.option("--destination", metavar="NAME", help="Of this shadow only.")
@click.option(
    "--accept",
    "accepted",
    metavar="PATTERN",
    multiple=True,
    help='A field, or an event, that need not arrive, such as "context.*"; more than once.',
)
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON.")
def report_(path: Path, destination: str | None, accepted: Sequence[str], *, as_json: bool) -> None:
    """Say per event and field what would arrive, and whether it is safe to switch.

    It may be asked while the gateway runs, which writes down what it saw once a second.
    """
    file = ShadowStore(load_spool(path).path)
    counts = _by_destination(file.read())
    if destination is not None and destination not in counts:
        known = {*counts, *file.names()}
        if destination not in known:
            raise click.ClickException(
                f"no shadow {destination!r}; {did_you_mean(destination, known)}"
            )
        counts[destination] = {}
    told = _spelt()
    reports = [
        report(name, sums, told, accepted)
        for name, sums in counts.items()
        if destination in {None, name}
    ]
    if as_json:
        click.echo(orjson.dumps([_json(found) for found in reports], option=orjson.OPT_INDENT_2))
        return
    if not reports:
        click.echo("no shadow has seen anything yet; write shadow = true in a destination's table")
    out = console()
    for found in reports:
        _print(found, out)


@shadow.command("reset")
@config_option
@click.option("--destination", metavar="NAME", help="Of this shadow only.")
def reset(path: Path, destination: str | None) -> None:
    """Forget what shadows saw, to begin anew, after a change of the routes for example."""
    forgotten = ShadowStore(load_spool(path).path).clear(destination)
    click.echo("forgotten" if forgotten else "there was nothing to forget")


def _by_destination(counts: Mapping[Key, Count]) -> dict[str, dict[Key, Count]]:
    found: dict[str, dict[Key, Count]] = {}
    for key, count in counts.items():
        found.setdefault(key.destination, {})[key] = count
    return found


def _spelt() -> Spelt:
    registry = load_plugins()
    known = {name: spellings(reads()) for name, reads in registry.inputs.items()}
    return lambda vendor, field: spelt(field, known.get(vendor, {}))


def _json(found: ShadowReport) -> dict[str, object]:
    plain = found._asdict()
    for key in ("events", "fields", "answers", "beside"):
        plain[key] = [line._asdict() for line in plain[key]]
    return {**plain, "safe": bool(found.seen) and not found.open, "verdict": found.verdict}


def _print(found: ShadowReport, out: Console) -> None:
    out.print(title(found.destination))
    out.print(Text(f"  {found.verdict}", style="green" if _safe(found) else "yellow"))
    if found.seen:
        events = "1 event" if found.seen == 1 else f"{found.seen} events"
        out.print(f"  {events}, from {format_time(found.first)} to {format_time(found.last)} UTC")
    if found.skipped:
        out.print(f"  {found.skipped} further ones were skipped, to keep pace")
    for heading, columns, rows in _tables(found):
        out.print(title(f"\n  {heading}"))
        made = table(columns, rows)
        made.columns[0].no_wrap = True
        out.print(made)
    out.print()


def _tables(found: ShadowReport) -> Iterator[tuple[str, Sequence[str], Sequence[tuple[str, ...]]]]:
    if found.events:
        yield "Events", ("event", "of", "seen", "go"), [_event(line) for line in found.events]
    if reasons := _reasons(found.events):
        yield "Why events would not arrive", ("events", "why", "which"), reasons
    if found.fields:
        columns = ("field", "sent as", "how", "of events", "example", "why")
        heading = f"Fields that would not arrive as they are ({found.kept} others would)"
        yield heading, columns, [_field(line) for line in found.fields]
    if found.answers:
        answers = [(str(line.number), line.how, line.why) for line in found.answers]
        yield "Answers of the test account", ("events", "answer", "why"), [*answers]
    if found.beside:
        sides = [
            (str(line.number), line.destination, line.there, line.here) for line in found.beside
        ]
        headings = ("events", "sent to", "ended there", "the test account")
        yield "The same events where they were really sent", headings, [*sides]


def _safe(found: ShadowReport) -> bool:
    return bool(found.seen) and not found.open


def _event(line: EventLine) -> tuple[str, ...]:
    return _marked(line.event, line.accepted), line.vendor, str(line.seen), str(line.goes)


def _reasons(lines: Sequence[EventLine]) -> list[tuple[str, ...]]:
    numbers: Counter[str] = Counter()
    which: dict[str, list[str]] = {}
    for line in lines:
        for why, number in line.reasons:
            numbers[why] += number
            which.setdefault(why, []).append(line.event)
    return [(str(number), why, _listed(which[why])) for why, number in numbers.most_common()]


def _field(line: FieldLine) -> tuple[str, ...]:
    number = f"{line.number} of {line.of}"
    why = "" if line.why.endswith(NO_PLACE) else line.why
    name = _marked(line.field, line.accepted)
    return name, line.sent_as, line.how, number, line.example, why


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - FEW
    return ", ".join(names[:FEW]) + (f" and {rest} more" if rest > 0 else "")


def _marked(name: str, accepted: bool) -> str:  # noqa: FBT001 - a mark that is there or not
    return f"{name} (accepted)" if accepted else name
