"""``gateway dead-letters``: look at what was given up, replay it or delete it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
from msgspec.structs import replace
from rich.progress import Progress, SpinnerColumn, TextColumn

from gateway.cli.output import config_option, console, redactor_of, strip_control_characters, table
from gateway.cli.text import lines
from gateway.config.loader.load import load_spool
from gateway.plugin.quantities import duration
from gateway.spool import Balance, DeadLetterFilter
from gateway.spool.dead_letters import DeadLetterSummary, format_time, summarize
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.spool.values import Cause
from gateway.suggestions import did_you_mean

PAGE = 200
"""Dead letters that are moved between two signs of life."""
LONGEST = 200
"""Characters of a reason that a list shows."""


def parse_time(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Return a time in Unix seconds: ISO 8601 (UTC where it names no zone), or how long ago.

    Raises:
        click.BadParameter: it is no time.
    """
    if value is None:
        return None
    with suppress(ValueError):
        return time.time() - float(str(duration(value)))
    try:
        found = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(
            f'{value!r} is no time; write "2h" for two hours ago, or "2024-05-01T12:00"'
        ) from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


FILTERS = (
    click.option("--destination", help="Of this destination."),
    click.option("--reason", metavar="TEXT", help="With this in the reason, in any case."),
    click.option("--cause", type=click.Choice(get_args(Cause)), help="Given up for this."),
    click.option(
        "--since",
        metavar="TIME",
        callback=parse_time,
        help='At or after: "2h" ago, or an ISO 8601 time.',
    ),
    click.option("--until", metavar="TIME", callback=parse_time, help="Before."),
    click.option("--event", "event_name", help="Of events with this neutral name."),
    click.option("--user", help="Of the user with this id."),
    click.option("--request", metavar="ID", help="Of the request with this id."),
)


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which dead letters are meant."""
    for option in reversed(FILTERS):
        command = option(command)
    return command


@contextmanager
def _box(path: Path, destination: str | None = None) -> Iterator[DeadLetterStore]:
    """Open the dead letters.

    Raises:
        click.ClickException: nothing was ever routed to that *destination*.
    """
    with DeadLetterStore(load_spool(path).path) as box:
        if destination is not None and destination not in (known := box.balances()):
            hint = did_you_mean(destination, known)
            raise click.ClickException(f"there is no destination {destination!r}; {hint}")
        yield box


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at dead letters, replay them, delete them."""


@dead_letters.command("list")
@config_option
@filtered
@click.option("--after", type=int, default=0, help="Continue behind this id.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="How many to list.",
)
def list_(path: Path, after: int, limit: int, **which: Any) -> None:
    """List dead letters, the oldest first."""
    with _box(path, which["destination"]) as box:
        found = box.dead_letters(DeadLetterFilter(**which), after, limit + 1)
    if not found:
        click.echo("no dead letter matches" if after or any(which.values()) else "no dead letters")
        return
    hide = redactor_of(path).text
    rows = [_row(summarize(dead, hide)) for dead in found[:limit]]
    console().print(table(("id", "at", "destination", "event", "user", "cause", "reason"), rows))
    if len(found) > limit:
        click.echo(f"there are more: --after {found[limit - 1].id}", err=True)


def _row(letter: DeadLetterSummary) -> tuple[str, ...]:
    reason = " ".join(letter.reason.split())
    short = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}…"
    at = format_time(letter.at)
    cells = (
        str(letter.id), at, letter.destination, letter.event_name, letter.user, letter.cause, short
    )  # fmt: skip
    return tuple(map(strip_control_characters, cells))


@dead_letters.command("show")
@config_option
@click.argument("number", metavar="ID", type=int)
def show(path: Path, number: int) -> None:
    """Show one dead letter whole: the request, each attempt, what was sent last."""
    with _box(path) as box:
        letter = box.dead_letter(number)
    if letter is None:
        raise click.ClickException(f"there is no dead letter {number}; `gateway dead-letters list`")
    for line in lines(letter, redactor_of(path).text):
        click.echo(strip_control_characters(line))


def _moving(verb: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorate(moves: Callable[..., None]) -> Callable[..., None]:
        moves = click.option("--all", "every", is_flag=True, help=f"{verb} every one.")(moves)
        moves = click.argument("ids", metavar="[ID]...", type=int, nargs=-1)(filtered(moves))
        return config_option(moves)

    return decorate


@dead_letters.command("replay")
@_moving("Replay")
def replay(path: Path, ids: Sequence[int], *, every: bool, **which: Any) -> None:
    """Deliver dead letters again, by ids or by filter.

    They go through the vendors' present plugins. A gateway that runs notices within a second.
    """
    with _box(path, which["destination"]) as box:
        _move(box, box.replay, "replayed", _meant(ids, every=every, which=which))


@dead_letters.command("delete")
@_moving("Delete")
def delete(path: Path, ids: Sequence[int], *, every: bool, **which: Any) -> None:
    """Delete dead letters, by ids or by filter."""
    with _box(path, which["destination"]) as box:
        _move(box, box.drop, "deleted", _meant(ids, every=every, which=which))


def _meant(
    ids: Sequence[int], *, every: bool, which: dict[str, Any]
) -> Sequence[int] | DeadLetterFilter:
    """Return which dead letters are meant; one of ids, filters and ``--all`` must be given."""
    filters = any(value is not None for value in which.values())
    if sum((bool(ids), filters, every)) != 1:
        raise click.UsageError("name ids, or filters, or --all; one of the three")
    return ids or DeadLetterFilter(**which)


def _move(
    box: DeadLetterStore,
    act: Callable[[Sequence[int]], int],
    done: str,
    meant: Sequence[int] | DeadLetterFilter,
) -> None:
    out = console(err=True)
    columns = (SpinnerColumn(), TextColumn(f"{{task.completed:,.0f}} {done}"))
    moved = 0
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task(done, total=None)
        for ids in _pages(box, meant):
            moved += act(ids)
            progress.update(task, completed=moved)
    click.echo(f"{done} {moved:,}" if moved else "no dead letter matches")


def _pages(
    box: DeadLetterStore, meant: Sequence[int] | DeadLetterFilter
) -> Iterator[Sequence[int]]:
    """Yield the ids that are meant, some at a time; what dies meanwhile is not among them."""
    if not isinstance(meant, DeadLetterFilter):
        missing = [str(number) for number in meant if box.dead_letter(number) is None]
        if missing:
            raise click.ClickException(
                f"there is no dead letter {', '.join(missing)}; nothing was done"
            )
        yield meant
        return
    now = time.time()
    meant = replace(meant, until=now if meant.until is None else min(now, meant.until))
    after = 0
    while page := box.dead_letters(meant, after, PAGE):
        after = page[-1].id
        yield [letter.id for letter in page]


@dead_letters.command("balance")
@config_option
def balance(path: Path) -> None:
    """Say what became of all that was accepted, by destination; fail where something is missing."""
    with _box(path) as box:
        found = box.balances()
    names = (*Balance.__struct_fields__, "missing")
    rows = [
        (strip_control_characters(n), *(str(getattr(b, of)) for of in names))
        for n, b in found.items()
    ]
    console().print(table(("destination", *names), rows))
    wrong = [name for name, one in found.items() if one.missing]
    if wrong:
        raise click.ClickException(
            "deliveries are unaccounted for: "
            f"{', '.join(map(strip_control_characters, wrong))}; keep a copy of the spool's folder "
            "and of the log, and report it"
        )
