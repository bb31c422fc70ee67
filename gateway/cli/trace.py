"""``gateway trace``."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from gateway.cli.hiding import hide_of
from gateway.cli.telling import told
from gateway.cli.terminal import config_option, printable
from gateway.config.load import load_spool, load_trace
from gateway.errors import SpoolError
from gateway.letter import Letter, letter_of
from gateway.spool import Dead, LetterBox, Letters
from gateway.trace.ends import MOST, asks, meant
from gateway.trace.interface import Line, Trace, Which
from gateway.trace.reading import NothingTraced, reading


class Told(Trace, frozen=True):
    """A trace, with the dead letters that there are of its events."""

    letters: Sequence[Letter] | None = None
    """Null where the spool could not be asked."""


@click.command("trace")
@config_option
@click.argument("identity", metavar="ID")
@click.option("--short", is_flag=True, help="Without what was received and sent.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, a trace per line.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Traces at most."
)
def command(path: Path, identity: str, limit: int, *, short: bool, as_json: bool) -> None:
    """Show where an event went, and why not elsewhere.

    ID is a request's (x-gateway-request-id), an event's, a message id, a user id or an anonymous
    id. Works while the gateway runs, and after. Several requests are shown in short, the newest
    last.
    """
    file = load_trace(path)
    with _spool(path) as box:
        found, latest = _found(file, box, identity, limit)
        dead = {trace.request: _dead(box, trace) for trace in found}
    if not found:
        raise click.ClickException(
            f"nothing is kept under {printable(identity)!r}; it may be too old, or it was not "
            f"chosen: see [trace] successes_per_second"
        )
    hide = hide_of(path) if any(dead.values()) else str
    letters = {
        request: None if some is None else [letter_of(one, hide) for one in some]
        for request, some in dead.items()
    }
    for place, trace in enumerate(reversed(found)):
        kept = letters[trace.request]
        if as_json:
            click.echo(msgspec.json.encode(Told(**msgspec.structs.asdict(trace), letters=kept)))
            continue
        if place:
            click.echo()
        whole = len(found) == 1 and not short
        for line in told(trace, whole=whole, latest=latest.get, letters=kept):
            click.echo(printable(line))


def _found(
    file: Path, box: LetterBox | None, identity: str, limit: int
) -> tuple[list[Trace], dict[str, Line | None]]:
    """Return what is traced, and the newest line about each destination of it.

    Raises:
        TraceError: nothing is, and no dead letter says anything either.
    """
    try:
        with reading(file) as reader:
            found = reader.show(identity, limit)
            latest = {
                to: next(iter(reader.lines(Which(destination=to), limit=1)), None)
                for trace in found
                for event in trace.events
                for decided in event.decisions
                for to in decided.gives
            }
    except NothingTraced:
        given_up = _given_up(box, identity)
        if not given_up:
            raise
        return given_up, {}
    return found or _given_up(box, identity), latest


@contextlib.contextmanager
def _spool(path: Path) -> Iterator[LetterBox | None]:
    """Open the spool beside the traces; there need not be one that can be read here."""
    with contextlib.ExitStack() as stack:
        box = None
        with contextlib.suppress(SpoolError):
            box = stack.enter_context(LetterBox(load_spool(path).path))
        yield box


def _given_up(box: LetterBox | None, identity: str) -> list[Trace]:
    """Return a request of which there are dead letters and nothing else."""
    with contextlib.suppress(SpoolError):
        for which in meant(identity):
            for dead in box.dead_letters(which, limit=1) if box is not None else ():
                return [Trace(dead.entry.id, None, (), ())]
    return []


def _dead(box: LetterBox | None, trace: Trace) -> list[Dead] | None:
    if box is None:
        return None
    whole = Letters(request=trace.request)
    with contextlib.suppress(SpoolError):
        if not box.dead_letters(whole, limit=1):
            return []
        which = list(asks(trace, trace.events))
        if trace.received is None or len(trace.events) < trace.received.events:
            which.append(whole)
        found = [dead for one in which for dead in box.dead_letters(one, limit=MOST)]
        return list({dead.id: dead for dead in found}.values())
    return None
