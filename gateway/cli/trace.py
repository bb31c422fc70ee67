"""``gateway trace``."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import click
import msgspec

from gateway import plugins
from gateway.cli.hiding import redactor_of
from gateway.cli.telling import told
from gateway.cli.terminal import config_option, printable
from gateway.config.load import load_spool, load_trace
from gateway.config.watching import TraceConfig
from gateway.errors import SpoolError
from gateway.letter import Letter, letter_of
from gateway.redact import Redactor
from gateway.routing.router import Router
from gateway.spool import LetterBox, Letters
from gateway.trace.ends import MOST, asks, meant
from gateway.trace.interface import Line, Trace, Which
from gateway.trace.making import Maker, Setting
from gateway.trace.reading import NothingTraced, reading
from gateway.trace.standing import Held, Standing, standings
from gateway.trace.untraced import nothing, stored

Known = Callable[[], Redactor]
"""Returns what hides the configured credentials; says which of them it does not know."""


class Told(Trace, frozen=True):
    """A trace, with what the spool has of its request; null where that could not be asked."""

    letters: Sequence[Letter] | None = None
    standings: Sequence[Standing] | None = None


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
    file, known = load_trace(path), cache(partial(redactor_of, path))
    with _spool(path) as box:
        found, latest, none = _found(file, identity, limit)
        found = found or list(_untraced(box, identity, known))
        held = {trace.request: _held(box, trace, known) for trace in found}
    if not found:
        why = nothing(identity, asked=box is not None)
        raise none or click.ClickException(printable(why))
    for place, trace in enumerate(reversed(found)):
        kept = held[trace.request]
        if as_json:
            more = {} if kept is None else kept._asdict()
            click.echo(msgspec.json.encode(Told(**msgspec.structs.asdict(trace), **more)))
            continue
        if place:
            click.echo()
        whole = len(found) == 1 and not short
        for line in told(trace, whole=whole, latest=latest.get, held=kept):
            click.echo(printable(line))


def _found(
    file: Path, identity: str, limit: int
) -> tuple[list[Trace], dict[str, Line | None], NothingTraced | None]:
    """Return what is traced, the newest line about each destination of it, and why nothing is."""
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
    except NothingTraced as error:
        return [], {}, error
    return found, latest, None


@contextlib.contextmanager
def _spool(path: Path) -> Iterator[LetterBox | None]:
    """Open the spool beside the traces; there need not be one that can be read here."""
    with contextlib.ExitStack() as stack:
        box = None
        with contextlib.suppress(SpoolError):
            box = stack.enter_context(LetterBox(load_spool(path).path))
        yield box


def _untraced(box: LetterBox | None, identity: str, known: Known) -> Iterator[Trace]:
    """Yield a request of which the spool has dead letters, or what it is still to deliver."""
    if box is None:
        return
    with contextlib.suppress(SpoolError):
        for which in meant(identity):
            owing = box.owing(which.request or "")
            letters = box.dead_letters(which, limit=1)
            for entry in [dead.entry for dead in letters] if owing is None else [owing.entry]:
                inputs = {name: cls() for name, cls in plugins.load().inputs.items()}
                setting = Setting(Router(()), inputs, known(), {}, consents=True)
                maker = Maker(setting, TraceConfig().bodies)
                yield stored(entry, maker, whole=owing is not None and owing.whole)
                return


def _held(box: LetterBox | None, trace: Trace, known: Known) -> Held | None:
    if box is None:
        return None
    whole = Letters(request=trace.request)
    with contextlib.suppress(SpoolError):
        stands = tuple(standings(box.owing(trace.request)))
        if not box.dead_letters(whole, limit=1):
            return Held((), stands)
        which = list(asks(trace, trace.events))
        if trace.received is None or len(trace.events) < trace.received.events:
            which.append(whole)
        found = [dead for one in which for dead in box.dead_letters(one, limit=MOST)]
        letters = {dead.id: letter_of(dead, known().text) for dead in found}
        return Held(tuple(letters.values()), stands)
    return None
