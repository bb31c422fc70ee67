"""``gateway dead-letters``: list, show, replay and delete dead letters."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
from msgspec.structs import replace
from rich.progress import Progress, SpinnerColumn, TextColumn

from gateway.cli.audit import audit_log, command_entry
from gateway.cli.completion import complete_configured
from gateway.cli.event_options import parse_time
from gateway.cli.options import config_option, json_option
from gateway.cli.output import console, redactor_of, strip_control_characters, table
from gateway.cli.text import lines
from gateway.config.loader.load import load_names, load_spool
from gateway.errors import SpoolError
from gateway.json_text import loads
from gateway.spool import Balance, DeadLetterFilter
from gateway.spool.dead_letters import DeadLetterSummary, format_time, summarize
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.spool.values import Cause
from gateway.suggestions import check_name

PAGE_SIZE = 200
"""Dead letters that are replayed or deleted in one transaction."""
MAX_REASON = 200
"""Characters that a list shows of a reason."""
_MESSAGE = re.compile(
    r'"(?:error_?[mM]essage|message|msg|error_description|detail|title|error|reason)"\s*:\s*("(?:[^"\\]|\\["\\/bfnrt])+")'
)
"""A vendor's message, under the names that APIs give it."""
BALANCE_WIDTH = 132
"""Columns of the table of balances, so that no number is folded."""


FILTERS = (
    click.option(
        "--destination",
        shell_complete=complete_configured("destinations"),
        help="Only of this destination.",
    ),
    click.option("--reason", metavar="TEXT", help="Only with this text in the reason."),
    click.option("--cause", type=click.Choice(get_args(Cause)), help="Only with this cause."),
    click.option(
        "--since",
        metavar="TIME",
        callback=parse_time,
        help='Only those written at this time or later: "2h" (two hours ago), or an ISO 8601 time.',
    ),
    click.option(
        "--until", metavar="TIME", callback=parse_time, help="Only those written before this time."
    ),
    click.option("--event", "event_name", help="Only of events with this neutral name."),
    click.option("--user", help="Only of the user with this id."),
    click.option("--request", metavar="ID", help="Only of the request with this id."),
)


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select dead letters."""
    for option in reversed(FILTERS):
        command = option(command)
    return command


@contextmanager
def _store(path: Path, destination: str | None = None) -> Iterator[DeadLetterStore]:
    """Open the dead letters of the configuration's spool.

    Raises:
        UnknownName: there is no *destination*, and there never was one in this spool.
        SpoolError: the spool cannot be read, or is not in a folder.
    """
    spool = load_spool(path)
    if spool.url:
        raise SpoolError(
            "[spool] url: the dead letters are in NATS; use the console or the admin API of a "
            "gateway"
        )
    with DeadLetterStore(spool.path) as store:
        if destination is not None:
            known = {*store.balances(), *load_names(path, "destinations")}
            check_name("destination", destination, known)
        yield store


@click.group("dead-letters")
def dead_letters() -> None:
    """List, show, replay and delete dead letters."""


@dead_letters.command("list")
@config_option
@filtered
@click.option("--after", type=int, default=0, help="Only with a higher id: the next page.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="List at most this many.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one dead letter per line.")
def list_(path: Path, after: int, limit: int, *, as_json: bool, **which: Any) -> None:
    """List dead letters, the oldest first."""
    with _store(path, which["destination"]) as store:
        found = store.dead_letters(DeadLetterFilter(**which), after, limit + 1)
    if not found and not as_json:
        click.echo("no dead letter matches" if after or any(which.values()) else "no dead letters")
        return
    hide = redactor_of(path).text
    letters = [summarize(dead, hide) for dead in found[:limit]]
    if as_json:
        for letter in letters:
            click.echo(msgspec.json.encode(letter))
    else:
        columns = ("id", "at", "destination", "event", "user", "cause", "reason")
        console().print(table(columns, map(_row, letters)))
    if len(found) > limit:
        click.echo(f"there are more; continue with --after {found[limit - 1].id}", err=True)


def with_message(reason: str) -> str:
    """Return a reason with the vendor's message in the place of the JSON around it."""
    start = min(filter(lambda at: at >= 0, (reason.find("{"), reason.find("["))), default=-1)
    found = _MESSAGE.search(reason, start) if start >= 0 else None
    return reason[:start] + str(loads(found[1].encode())) if found else reason


def _row(letter: DeadLetterSummary) -> tuple[str, ...]:
    reason = " ".join(with_message(letter.reason).split())
    short = reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]}…"
    at = format_time(letter.at)
    cells = (
        str(letter.id), at, letter.destination, letter.event_name, letter.user, letter.cause, short
    )  # fmt: skip
    return tuple(map(strip_control_characters, cells))


@dead_letters.command("show")
@config_option
@click.argument("number", metavar="ID", type=int)
def show(path: Path, number: int) -> None:
    """Show one dead letter.

    Prints the received request, each attempt and the last outgoing request.
    """
    with _store(path) as store:
        letter = store.dead_letter(number)
    if letter is None:
        raise click.ClickException(
            f"there is no dead letter {number}; see `gateway dead-letters list`"
        )
    for line in lines(letter, redactor_of(path).text):
        click.echo(strip_control_characters(line))


def _selection(verb: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds the ids, the filters and ``--all`` to a command."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        command = click.option("--all", "every", is_flag=True, help=f"{verb} all.")(command)
        command = click.argument("ids", metavar="[ID]...", type=int, nargs=-1)(filtered(command))
        return config_option(command)

    return decorate


@dead_letters.command("replay")
@_selection("Replay")
def replay(path: Path, ids: Sequence[int], *, every: bool, **which: Any) -> None:
    """Deliver dead letters again, selected by ids or by filters.

    The requests are built again, with the current configuration and plugins. A running gateway
    begins to send them within a second; a stopped one when it starts.
    """
    selected, audit = _selected(ids, every=every, which=which), audit_log(path)
    with _store(path, which["destination"]) as store:
        moved = _apply(store, store.replay, "replayed", selected)
    audit.add(
        command_entry("replay_dead_letters", f"{moved} dead letter{'' if moved == 1 else 's'}")
    )


@dead_letters.command("delete")
@_selection("Delete")
def delete(path: Path, ids: Sequence[int], *, every: bool, **which: Any) -> None:
    """Delete dead letters, selected by ids or by filters."""
    selected, audit = _selected(ids, every=every, which=which), audit_log(path)
    with _store(path, which["destination"]) as store:
        moved = _apply(store, store.drop, "deleted", selected)
    audit.add(
        command_entry("delete_dead_letters", f"{moved} dead letter{'' if moved == 1 else 's'}")
    )


def _selected(
    ids: Sequence[int], *, every: bool, which: dict[str, Any]
) -> Sequence[int] | DeadLetterFilter:
    """Return the selected ids, or the filter; exactly one of ids, filters and ``--all`` is given.

    Raises:
        click.UsageError: none of the three is given, or more than one.
    """
    filters = any(value is not None for value in which.values())
    if sum((bool(ids), filters, every)) != 1:
        raise click.UsageError("give ids, filters or --all: exactly one of the three")
    return ids or DeadLetterFilter(**which)


def _apply(
    store: DeadLetterStore,
    act: Callable[[Sequence[int]], int],
    done: str,
    selected: Sequence[int] | DeadLetterFilter,
) -> int:
    """Call *act* with the ids that are selected, page by page; return the number of dead letters.

    Args:
        store: the dead letters.
        act: replays or deletes the dead letters with these ids; returns their number.
        done: what *act* did, such as "replayed".
        selected: the ids, or a filter.
    """
    out = console(err=True)
    columns = (SpinnerColumn(), TextColumn(f"{{task.completed:,.0f}} {done}"))
    total = 0
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task(done, total=None)
        for ids in _pages(store, selected):
            total += act(ids)
            progress.update(task, completed=total)
    click.echo(f"{done} {total:,}" if total else "no dead letter matches")
    return total


def _pages(
    store: DeadLetterStore, selected: Sequence[int] | DeadLetterFilter
) -> Iterator[Sequence[int]]:
    """Yield the selected ids, page by page; leave out dead letters that are new since the call."""
    if not isinstance(selected, DeadLetterFilter):
        missing = [str(number) for number in selected if store.dead_letter(number) is None]
        if missing:
            raise click.ClickException(
                f"there is no dead letter {', '.join(missing)}; nothing was done"
            )
        yield selected
        return
    now = time.time()
    selected = replace(selected, until=now if selected.until is None else min(now, selected.until))
    after = 0
    while page := store.dead_letters(selected, after, PAGE_SIZE):
        after = page[-1].id
        yield [letter.id for letter in page]


@dead_letters.command("balance")
@config_option
@json_option("the balances")
def balance(path: Path, *, as_json: bool) -> None:
    """Count each destination's deliveries by outcome.

    Exits with 1 if a delivery is unaccounted for.
    """
    with _store(path) as store:
        found = store.balances()
    names = (*Balance.__struct_fields__, "unaccounted")
    counts = {to: {name: getattr(one, name) for name in names} for to, one in found.items()}
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(counts)))
    else:
        rows = [
            (strip_control_characters(to), *map(str, numbers.values()))
            for to, numbers in counts.items()
        ]
        out = console()
        out.width = max(out.width, BALANCE_WIDTH)
        out.print(table(("destination", *names), rows))
    wrong = [name for name, one in found.items() if one.unaccounted]
    if wrong:
        raise click.ClickException(
            "deliveries are unaccounted for: "
            f"{', '.join(map(strip_control_characters, wrong))}; copy the spool's folder and the "
            "log, and report it as a bug"
        )
