"""``gateway trace`` and ``gateway tail``: print the traces of requests and deliveries.

Both only read ``traces.db`` and the spool. They take no lock, so the gateway never waits for them.
In a cluster ``gateway trace`` asks the running gateway, which asks the others.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import click
import msgspec
from watchfiles import watch

from gateway.cli.completion import complete_configured
from gateway.cli.options import config_option
from gateway.cli.output import console, redactor_of, strip_control_characters
from gateway.cli.trace_text import tail_line, trace_lines
from gateway.config.loader.load import load_admin, load_names, load_spool, load_trace
from gateway.config.operations import TraceConfig
from gateway.errors import SpoolError, TraceError
from gateway.plugin.registry import load_plugins
from gateway.redact import Redactor
from gateway.routing.router import Router
from gateway.spool import DeadLetterFilter
from gateway.spool.dead_letters import DeadLetterSummary, summarize
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.suggestions import check_name
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
"""Returns the redactor of the configuration; prints which credentials it does not know."""


class TraceOutput(Trace, frozen=True):
    """A trace, with the spool's records of its request; null if the spool cannot be read."""

    dead_letters: Sequence[DeadLetterSummary] | None = None
    delivery_states: Sequence[DeliveryState] | None = None


@click.command("trace")
@config_option
@click.argument("identity", metavar="ID")
@click.option("--short", is_flag=True, help="Leave out the received and the sent requests.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one trace per line.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Print at most this many traces.",
)
def trace(path: Path, identity: str, limit: int, *, short: bool, as_json: bool) -> None:
    """Show which destinations got an event, and why others did not.

    ID is the id of a request (header x-gateway-request-id), event, message, user or anonymous
    user. The gateway may run or be stopped. If several requests match, each is printed in short
    form, the newest last. In a cluster the running gateway asks all others.
    """
    stored = _of_cluster(path, identity, limit) or _of_files(path, identity, limit)
    found, latest, records = stored
    for place, trace in enumerate(reversed(found)):
        held = records[trace.request]
        if as_json:
            more = {} if held is None else held._asdict()
            click.echo(msgspec.json.encode(TraceOutput(**msgspec.structs.asdict(trace), **more)))
            continue
        if place:
            click.echo()
        whole = len(found) == 1 and not short
        for line in trace_lines(trace, whole=whole, latest=latest.get, held=held):
            click.echo(strip_control_characters(line))


class _Stored(NamedTuple):
    """What is stored of an id."""

    traces: Sequence[Trace]
    latest: Mapping[str, TraceLine | None]
    """The newest line of each destination, None where it has no line yet."""
    records: Mapping[str, SpoolRecords | None]
    """What the spool has, by request."""


def _of_cluster(path: Path, identity: str, limit: int) -> _Stored | None:
    """Return what all gateways have; None without a cluster, or without a gateway to ask."""
    if not load_spool(path).url:
        return None
    # Most callers need nothing of the admin API.
    from gateway.admin.traces import TraceResult  # noqa: PLC0415 - see above
    from gateway.cli.admin_client import AdminClient, NoGateway  # noqa: PLC0415 - see above

    own = "warning: only the traces of this gateway are shown"
    if load_admin(path, secrets=False) is None:
        click.echo(f"{own}: {path} has no [admin] table", err=True)
        return None
    try:
        found = AdminClient(path).get(f"/trace?id={quote(identity, safe='')}", TraceResult)
    except NoGateway as error:
        click.echo(f"{own}: {error.message}", err=True)
        return None
    for node, reason in found.silent.items():
        why = f"{node} did not answer, and what it recorded is missing: {reason}"
        click.echo(f"warning: {strip_control_characters(why)}", err=True)
    records = {
        trace.request: SpoolRecords(
            [one for one in found.dead_letters if one.request == trace.request],
            [one for one in found.delivery_states if one.event.startswith(f"{trace.request}-")],
        )
        for trace in found.traces
    }
    return _Stored(found.traces[:limit], {}, records)


def _of_files(path: Path, identity: str, limit: int) -> _Stored:
    """Return what is stored on this machine; raises an error if it is nothing."""
    file, known = load_trace(path), cache(partial(redactor_of, path))
    with _spool(path) as store:
        found, latest, no_file = _traces(file, identity, limit)
        found = found or list(_untraced(store, identity, known))
        records = {trace.request: _records(store, trace, known) for trace in found}
    if not found:
        why = explain_missing(identity, file, asked=store is not None)
        raise no_file or click.ClickException(strip_control_characters(why))
    return _Stored(found, latest, records)


def _traces(
    file: Path, identity: str, limit: int
) -> tuple[list[Trace], dict[str, TraceLine | None], NoTraceFile | None]:
    """Return the traces, the newest line of each of their destinations, and a missing file's error.

    The lines are by destination; None where it has no line yet.
    """
    try:
        with open_traces(file) as reader:
            found = reader.show(identity, limit)
            latest = {
                to: next(iter(reader.lines(TraceFilter(destination=to), limit=1)), None)
                for trace in found
                for event in trace.events
                for decided in event.decisions
                for to in decided.routed_to
            }
    except NoTraceFile as error:
        return [], {}, error
    return found, latest, None


@contextlib.contextmanager
def _spool(path: Path) -> Iterator[DeadLetterStore | None]:
    """Open the spool of the configuration; yield None if it cannot be read, or is in NATS."""
    spool = load_spool(path)
    with contextlib.ExitStack() as stack:
        store = None
        with contextlib.suppress(SpoolError):
            if not spool.url:
                store = stack.enter_context(DeadLetterStore(spool.path))
        yield store


def _untraced(store: DeadLetterStore | None, identity: str, known: Known) -> Iterator[Trace]:
    """Yield a trace made from the spool: of a request that is pending or has dead letters."""
    if store is None:
        return
    with contextlib.suppress(SpoolError):
        for which in filters_for_id(identity):
            pending = store.pending(which.request or "")
            letters = store.dead_letters(which, limit=1)
            for entry in [dead.entry for dead in letters] if pending is None else [pending.entry]:
                inputs = {name: cls() for name, cls in load_plugins().inputs.items()}
                settings = RecordSettings(Router(()), inputs, known(), {}, consents=True)
                builder = RecordBuilder(settings, TraceConfig().max_body)
                yield trace_from_spool(entry, builder, whole=pending is not None and pending.whole)
                return


def _records(store: DeadLetterStore | None, trace: Trace, known: Known) -> SpoolRecords | None:
    """Return the spool's dead letters and pending deliveries of a request; None without a spool."""
    if store is None:
        return None
    of_request = DeadLetterFilter(request=trace.request)
    with contextlib.suppress(SpoolError):
        states = tuple(delivery_states(store.pending(trace.request)))
        if not store.dead_letters(of_request, limit=1):
            return SpoolRecords((), states)
        filters = list(asks(trace, trace.events))
        if trace.received is None or len(trace.events) < trace.received.events:
            filters.append(of_request)
        found = [dead for one in filters for dead in store.dead_letters(one, limit=MOST)]
        letters = {dead.id: summarize(dead, known().text) for dead in found}
        return SpoolRecords(tuple(letters.values()), states)
    return None


PAGE_SIZE = 500
"""Lines that are read at once."""
POLL_INTERVAL = 1000
"""Milliseconds after which the file is read again if the system reports no change."""


@click.command("tail")
@config_option
@click.option(
    "--source",
    shell_complete=complete_configured("sources"),
    help="Only requests to this source, and their deliveries.",
)
@click.option(
    "--destination",
    shell_complete=complete_configured("destinations"),
    help="Only deliveries to this destination.",
)
@click.option("--event", "name", help="Only events with this neutral name.")
@click.option("--user", help="Only events of the user with this id or anonymous id.")
@click.option("--failed", is_flag=True, help="Only failures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
@click.option(
    "--lines",
    type=click.IntRange(0, 1000),
    default=10,
    show_default=True,
    help="Begin with this many earlier lines.",
)
@click.option("--limit", "count", type=click.IntRange(1), help="Exit after this many lines.")
def tail(path: Path, lines: int, count: int | None, *, as_json: bool, **which: Any) -> None:
    """Print requests and deliveries as they happen, until Ctrl-C.

    Above [trace] success_rate_limit successes are sampled; failed deliveries never are.
    """
    out, left, file = console(), count, load_trace(path)
    source, destination = which["source"], which["destination"]
    if source is not None and not _is_traced(file, TraceFilter(source=source)):
        check_name("source", source, load_names(path, "sources"))
    if destination is not None and not _is_traced(file, TraceFilter(destination=destination)):
        check_name("destination", destination, load_names(path, "destinations"))
    for line in _follow(file, TraceFilter(**which), lines):
        if as_json:
            click.echo(msgspec.json.encode(line))
        else:
            out.print(tail_line(line), soft_wrap=True)
        if left is not None:
            left -= 1
            if not left:
                return


def _is_traced(file: Path, which: TraceFilter) -> bool:
    """Return whether there are traces of a source or destination, configured or not."""
    with contextlib.suppress(NoTraceFile), open_traces(file) as reader:
        return bool(reader.lines(which, limit=1))
    return False


def _follow(file: Path, which: TraceFilter, earlier: int) -> Iterator[TraceLine]:
    """Yield *earlier* lines and then new ones, without end; reopen the file if it is replaced."""
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(open_traces(file))
        last = reader.last()
        yield from reversed(reader.lines(which, before=last + 1, limit=earlier))
        for _ in _changes(file):
            if reader.replaced:
                try:
                    reader, last = stack.enter_context(open_traces(file)), 0
                except TraceError:  # the gateway is still creating it
                    continue
            newest = reader.last()
            while page := reader.lines(
                which, after=last, before=newest + 1, limit=PAGE_SIZE, newest=False
            ):
                yield from page
                last = page[-1].number
            last = newest


def _changes(file: Path) -> Iterator[object]:
    """Yield when *file* changes, and at least every POLL_INTERVAL."""
    return watch(
        file.parent,
        watch_filter=lambda _, name: Path(name).name.startswith(file.name),
        debounce=100,
        step=20,
        rust_timeout=POLL_INTERVAL,
        yield_on_timeout=True,
        recursive=False,
        raise_interrupt=False,
    )
