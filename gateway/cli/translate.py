"""``gateway translate``."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any, NoReturn, TypeVar

import click
import orjson

from gateway.cli.output import console, table
from gateway.errors import Rejected, Unrenderable
from gateway.event import Event, as_json
from gateway.http import Request, Response
from gateway.json_text import dumps, loads
from gateway.losses.field_outcomes import FieldOutcome, derived, field_outcomes
from gateway.plugin.registry import load_plugins, placeholder_output
from gateway.plugin.vendor import JSON, Input, Output
from gateway.redact import Redactor
from gateway.suggestions import did_you_mean
from gateway.verdict import Declined

LONGEST = 40
"""Characters of a value that are shown."""

V = TypeVar("V")


@click.command("translate")
@click.option("--from", "source", metavar="VENDOR", required=True, help="Whose format FILE is in.")
@click.option("--to", "target", metavar="VENDOR", required=True, help="Whose format to write.")
@click.option("--path", metavar="PATH", help="Where it would be posted, such as /event/track.")
@click.argument("file", type=click.File("rb"))
def translate(source: str, target: str, path: str | None, file: IO[bytes]) -> None:
    """Show what one vendor's request becomes in another's format.

    FILE holds the body of the request; - reads it from standard input. Shown are the neutral
    events, the requests that would go out, and what is lost on the way. Nothing is sent.
    """
    registry = load_plugins()
    reads = _named(source, registry.inputs, "--from")()
    output = placeholder_output(_named(target, registry.outputs, "--to"))
    request, events = _parsed(reads, path, file.read())
    click.echo(f"{request.method} {request.path} of {source} holds {_count(events)}")
    redactor = Redactor(output.config)
    for number, event in enumerate(events, start=1):
        click.secho(f"\nevent {number}", bold=True)
        click.echo(_pretty(as_json(event)))
        _show(output, event, redactor)


def _named(name: str, known: Mapping[str, V], option: str) -> V:
    if name not in known:
        what = f"there is no vendor {name!r} for {option}; {did_you_mean(name, known)}"
        raise click.UsageError(what)
    return known[name]


def _count(events: list[Event]) -> str:
    return "1 event" if len(events) == 1 else f"{len(events)} events"


def _parsed(reads: Input, path: str | None, body: bytes) -> tuple[Request, list[Event]]:
    """Return the request that *body* belongs to, and its events; exit where it is refused."""
    if path is not None:
        request = _request(_endpoint(reads, path), body)
        try:
            return request, reads.parse(request)
        except Rejected as error:
            _refused(reads, request, error)
    taken, refusals = [], []
    for endpoint in reads.endpoints:
        request = _request(endpoint, body)
        try:
            taken.append((request, reads.parse(request)))
        except Rejected as error:
            refusals.append((request, error))
    if len(taken) == 1:
        return taken[0]
    if taken:
        paths = ", ".join(request.path for request, _ in taken)
        raise click.UsageError(f"{paths} would all take this body; say which with --path")
    if len(refusals) == 1:
        _refused(reads, *refusals[0])
    click.echo(f"no endpoint of {reads.name} takes this body:", err=True)
    for request, refusal in refusals:
        click.echo(f"  {request.method} {request.path}: {refusal}", err=True)
    raise click.exceptions.Exit(1)


def _endpoint(reads: Input, path: str) -> str:
    wanted = path.partition(" ")[2] or path
    for endpoint in reads.endpoints:
        asked = f"{endpoint.partition(' ')[0]} {wanted}"
        if asked in reads.endpoints and path in {wanted, asked}:
            return asked
    known = (endpoint.partition(" ")[2] for endpoint in reads.endpoints)
    raise click.UsageError(f"{reads.name} has no endpoint {path!r}; {did_you_mean(wanted, known)}")


def _request(endpoint: str, body: bytes) -> Request:
    method, _, path = endpoint.partition(" ")
    return Request(
        method=method, url=path, headers=JSON, body=body, id="event", received_at=datetime.now(UTC)
    )


def _refused(reads: Input, request: Request, error: Rejected) -> NoReturn:
    click.echo(f"{request.method} {request.path} refuses this body: {error}", err=True)
    click.echo(f"{reads.name} would answer:", err=True)
    click.echo(_answer(reads.refuse(request, error)), err=True)
    raise click.exceptions.Exit(1)


def _answer(response: Response) -> str:
    return f"{response.status}\n{_body(response.body.decode('utf-8', 'replace'))}"


def _show(output: Output, event: Event, redactor: Redactor) -> None:
    try:
        request = output.render(event)
    except Unrenderable as error:
        click.echo(f"becomes a dead letter for {output.name}: {error}")
        return
    if isinstance(request, Declined):
        click.echo(f"does not go to {output.name}: {request.reason}")
        return
    for number, each in enumerate((request, *request.also)):
        shown = redactor.request(each)
        click.secho("and as" if number else f"goes to {output.name} as", bold=True)
        click.echo(f"{shown['method']} {shown['url']}")
        for name, value in shown["headers"].items():
            click.echo(f"{name}: {value}")
        click.echo(f"\n{_body(shown['body'])}")
    _show_fates(field_outcomes(output, event))
    for field, why in derived(output, event).items():
        click.echo(f"{field} is derived from {why}")


def _show_fates(found: list[FieldOutcome]) -> None:
    lost = sum(fate.how == "lost" for fate in found)
    coerced = sum(fate.how == "coerced" for fate in found)
    click.echo()
    if not lost and not coerced:
        click.secho("nothing is lost", bold=True)
    else:
        click.secho(
            f"{lost} lost, {coerced} coerced, {len(found) - lost - coerced} kept", bold=True
        )
    rows = [(f.path, f.how, _short(f.value), f.why or f.to) for f in found]
    console().print(table(("field", "", "value", "where it goes, or why not"), rows))


def _short(value: Any) -> str:
    text = dumps(as_json(value), default=str).decode()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _body(text: str) -> str:
    """Return a body for reading: JSON indented, anything else as it is."""
    try:
        return _pretty(loads(text))
    except orjson.JSONDecodeError:
        return text


def _pretty(value: Any) -> str:
    return dumps(value, default=str, option=orjson.OPT_INDENT_2).decode()
