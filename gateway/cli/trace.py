"""``gateway trace`` and ``gateway tail``.

It reads the file and no more, so that the gateway never waits for it, and never knows of it.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import msgspec
from watchfiles import watch

from gateway.cli.output import config_option, console, redactor_of, strip_control_characters
from gateway.cli.text import tail_line, trace_lines
from gateway.config.loader.load import load_spool, load_trace
from gateway.config.operations import TraceConfig
from gateway.errors import SpoolError, TraceError
from gateway.plugin.registry import load_plugins
from gateway.redact import Redactor
from gateway.routing.router import Router
from gateway.spool import DeadLetterFilter
from gateway.spool.dead_letters import DeadLetterSummary, summarize
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.trace.delivery_status import (
    MOST,
    DeliveryState,
    SpoolRecords,
    asks,
    delivery_states,
    filters_for_id,
)
from gateway.trace.from_spool import explain_missing, trace_from_spool
from gateway.trace.record_builder import RecordBuilder, RecordSettings
from gateway.trace.records import Trace, TraceFilter, TraceLine
from gateway.trace.store import NoTraceFile, open_traces

Known = Callable[[], Redactor]
"""Returns what hides the configured credentials; says which of them it does not know."""


class TraceOutput(Trace, frozen=True):
    """A trace, with what the spool has of its request; null where that could not be asked."""

    letters: Sequence[DeadLetterSummary] | None = None
    standings: Sequence[DeliveryState] | None = None


@click.command("trace")
@config_option
@click.argument("identity", metavar="ID")
@click.option("--short", is_flag=True, help="Without what was received and sent.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, a trace per line.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Traces at most."
)
def trace(path: Path, identity: str, limit: int, *, short: bool, as_json: bool) -> None:
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
        why = explain_missing(identity, asked=box is not None)
        raise none or click.ClickException(strip_control_characters(why))
    for place, trace in enumerate(reversed(found)):
        kept = held[trace.request]
        if as_json:
            more = {} if kept is None else kept._asdict()
            click.echo(msgspec.json.encode(TraceOutput(**msgspec.structs.asdict(trace), **more)))
            continue
        if place:
            click.echo()
        whole = len(found) == 1 and not short
        for line in trace_lines(trace, whole=whole, latest=latest.get, held=kept):
            click.echo(strip_control_characters(line))


def _found(
    file: Path, identity: str, limit: int
) -> tuple[list[Trace], dict[str, TraceLine | None], NoTraceFile | None]:
    """Return what is traced, the newest line about each destination of it, and why nothing is."""
    try:
        with open_traces(file) as reader:
            found = reader.show(identity, limit)
            latest = {
                to: next(iter(reader.lines(TraceFilter(destination=to), limit=1)), None)
                for trace in found
                for event in trace.events
                for decided in event.decisions
                for to in decided.gives
            }
    except NoTraceFile as error:
        return [], {}, error
    return found, latest, None


@contextlib.contextmanager
def _spool(path: Path) -> Iterator[DeadLetterStore | None]:
    """Open the spool beside the traces; there need not be one that can be read here."""
    with contextlib.ExitStack() as stack:
        box = None
        with contextlib.suppress(SpoolError):
            box = stack.enter_context(DeadLetterStore(load_spool(path).path))
        yield box


def _untraced(box: DeadLetterStore | None, identity: str, known: Known) -> Iterator[Trace]:
    """Yield a request of which the spool has dead letters, or what it is still to deliver."""
    if box is None:
        return
    with contextlib.suppress(SpoolError):
        for which in filters_for_id(identity):
            owing = box.owing(which.request or "")
            letters = box.dead_letters(which, limit=1)
            for entry in [dead.entry for dead in letters] if owing is None else [owing.entry]:
                inputs = {name: cls() for name, cls in load_plugins().inputs.items()}
                setting = RecordSettings(Router(()), inputs, known(), {}, consents=True)
                maker = RecordBuilder(setting, TraceConfig().max_body)
                yield trace_from_spool(entry, maker, whole=owing is not None and owing.whole)
                return


def _held(box: DeadLetterStore | None, trace: Trace, known: Known) -> SpoolRecords | None:
    if box is None:
        return None
    whole = DeadLetterFilter(request=trace.request)
    with contextlib.suppress(SpoolError):
        stands = tuple(delivery_states(box.owing(trace.request)))
        if not box.dead_letters(whole, limit=1):
            return SpoolRecords((), stands)
        which = list(asks(trace, trace.events))
        if trace.received is None or len(trace.events) < trace.received.events:
            which.append(whole)
        found = [dead for one in which for dead in box.dead_letters(one, limit=MOST)]
        letters = {dead.id: summarize(dead, known().text) for dead in found}
        return SpoolRecords(tuple(letters.values()), stands)
    return None


PAGE = 500
"""Lines that are read at once."""
PATIENCE = 1000
"""Milliseconds after which the file is looked at where the system tells of no change."""


@click.command("tail")
@config_option
@click.option("--source", help="Of this source.")
@click.option("--destination", help="Deliveries to this destination.")
@click.option("--event", "name", help="Of events with this neutral name.")
@click.option("--user", help="Of the user with this id, or anonymous id.")
@click.option("--failed", is_flag=True, help="Only what went wrong.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, a line each.")
@click.option(
    "--lines", type=click.IntRange(0, 1000), default=10, show_default=True, help="Earlier ones."
)
@click.option("--limit", "count", type=click.IntRange(1), help="End after so many.")
def tail(path: Path, lines: int, count: int | None, *, as_json: bool, **which: Any) -> None:
    """Show what happens as it happens, until Ctrl-C.

    Above [trace] success_rate_limit successes are sampled; failed deliveries never are.
    """
    out, left, file = console(), count, load_trace(path)
    for line in _all(file, TraceFilter(**which), lines):
        if as_json:
            click.echo(msgspec.json.encode(line))
        else:
            out.print(tail_line(line), soft_wrap=True)
        if left is not None:
            left -= 1
            if not left:
                return


def _all(file: Path, which: TraceFilter, earlier: int) -> Iterator[TraceLine]:
    """Yield the last lines, and then those to come, for ever; also where the file is begun anew."""
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(open_traces(file))
        last = reader.last()
        yield from reversed(reader.lines(which, before=last + 1, limit=earlier))
        for _ in _looks(file):
            if reader.replaced:
                try:
                    reader, last = stack.enter_context(open_traces(file)), 0
                except TraceError:  # it is only just being made
                    continue
            newest = reader.last()
            while page := reader.lines(
                which, after=last, before=newest + 1, limit=PAGE, newest=False
            ):
                yield from page
                last = page[-1].number
            last = newest


def _looks(file: Path) -> Iterator[object]:
    """Yield whenever it is time to look at the file."""
    return watch(
        file.parent,
        watch_filter=lambda _, name: Path(name).name.startswith(file.name),
        debounce=100,
        step=20,
        rust_timeout=PATIENCE,
        yield_on_timeout=True,
        recursive=False,
        raise_interrupt=False,
    )
