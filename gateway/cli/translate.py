"""``gateway translate``: translate a request from one vendor's format into another's."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import IO, Any, NoReturn, TypeVar

import click
import orjson

from gateway.cli.completion import complete_inputs, complete_outputs
from gateway.cli.output import console, printable, table
from gateway.errors import Rejected, UnknownName, Unrenderable
from gateway.event import Event, as_json
from gateway.http import Request, Response
from gateway.json_text import dumps, loads
from gateway.losses.field_outcomes import FieldOutcome, derived, field_outcomes
from gateway.losses.reviewed import REMEDY
from gateway.plugin.registry import load_plugins, placeholder_output
from gateway.plugin.vendor import JSON, Input, Output
from gateway.redact import Redactor
from gateway.suggestions import check_name, did_you_mean
from gateway.verdict import Declined

MAX_VALUE = 40
"""Characters that are shown of a value."""

V = TypeVar("V")


@click.command("translate")
@click.option(
    "--from",
    "source",
    metavar="VENDOR",
    shell_complete=complete_inputs,
    required=True,
    help="The format of FILE.",
)
@click.option(
    "--to",
    "target",
    metavar="VENDOR",
    shell_complete=complete_outputs,
    required=True,
    help="The format to write.",
)
@click.option("--path", metavar="PATH", help="The path of the request, such as /event/track.")
@click.argument("file", type=click.File("rb"))
def translate(source: str, target: str, path: str | None, file: IO[bytes]) -> None:
    """Translate a request from one vendor's format into another's.

    FILE holds the body of the request; use - for standard input. Prints the neutral events, the
    outgoing requests, and the lost fields. Nothing is sent.
    """
    registry = load_plugins()
    reader = _named(source, registry.inputs, "--from")()
    output = placeholder_output(_named(target, registry.outputs, "--to"))
    request, events = _parsed(reader, path, file.read())
    _echo(f"{request.method} {request.path} of {source}: {_count(events)}")
    redactor = Redactor(output.config)
    for number, event in enumerate(events, start=1):
        click.secho(f"\nevent {number}", bold=True)
        _echo(_pretty(as_json(event)))
        _show(output, event, redactor)


def _named(name: str, known: Mapping[str, V], option: str) -> V:
    check_name("vendor", name, known, more=f" for {option}")
    return known[name]


def _count(events: list[Event]) -> str:
    return "1 event" if len(events) == 1 else f"{len(events)} events"


def _parsed(reader: Input, path: str | None, body: bytes) -> tuple[Request, list[Event]]:
    """Return the request with this *body*, and its events; exit with 1 if it is rejected.

    Without a *path*, try every endpoint; exactly one must accept the body.
    """
    if path is not None:
        request = _request(_endpoint(reader, path), body)
        try:
            return request, reader.parse(request)
        except Rejected as error:
            _rejected(reader, request, error)
    accepted, rejections = [], []
    for endpoint in reader.endpoints:
        request = _request(endpoint, body)
        try:
            accepted.append((request, reader.parse(request)))
        except Rejected as error:
            rejections.append((request, error))
    if len(accepted) == 1:
        return accepted[0]
    if accepted:
        paths = ", ".join(request.path for request, _ in accepted)
        raise click.UsageError(f"several endpoints accept this body: {paths}; add --path")
    if len(rejections) == 1:
        _rejected(reader, *rejections[0])
    _echo(f"no endpoint of {reader.name} accepts this body:", err=True)
    for request, reason in rejections:
        _echo(f"  {request.method} {request.path}: {reason}", err=True)
    raise click.exceptions.Exit(1)


def _endpoint(reader: Input, path: str) -> str:
    """Return the endpoint, "METHOD /path", that *path* names with or without its method."""
    wanted = path.partition(" ")[2] or path
    for endpoint in reader.endpoints:
        candidate = f"{endpoint.partition(' ')[0]} {wanted}"
        if candidate in reader.endpoints and path in {wanted, candidate}:
            return candidate
    known = (endpoint.partition(" ")[2] for endpoint in reader.endpoints)
    raise UnknownName(f"{reader.name} has no endpoint {path!r}; {did_you_mean(wanted, known)}")


def _request(endpoint: str, body: bytes) -> Request:
    method, _, path = endpoint.partition(" ")
    return Request(
        method=method, url=path, headers=JSON, body=body, id="event", received_at=datetime.now(UTC)
    )


def _rejected(reader: Input, request: Request, error: Rejected) -> NoReturn:
    _echo(f"{request.method} {request.path} rejects this body: {error}", err=True)
    _echo(f"{reader.name} would respond:", err=True)
    _echo(_response(reader.refuse(request, error)), err=True)
    raise click.exceptions.Exit(1)


def _echo(text: str, *, err: bool = False) -> None:
    """Print *text*, which may quote a hostile request."""
    click.echo(printable(text), err=err)


def _response(response: Response) -> str:
    return f"{response.status}\n{_body(response.body.decode('utf-8', 'replace'))}"


def _show(output: Output, event: Event, redactor: Redactor) -> None:
    try:
        request = output.render(event)
    except Unrenderable as error:
        _echo(f"becomes a dead letter for {output.name}: {error}")
        return
    if isinstance(request, Declined):
        _echo(f"declined, not sent to {output.name}: {request.reason}")
        return
    for number, each in enumerate((request, *request.also)):
        shown = redactor.request(each)
        click.secho("and" if number else f"request to {output.name}", bold=True)
        _echo(f"{shown['method']} {shown['url']}")
        for name, value in shown["headers"].items():
            _echo(f"{name}: {value}")
        _echo(f"\n{_body(shown['body'])}")
    _show_fields(field_outcomes(output, event))
    for field, why in derived(output, event).items():
        _echo(f"{field} is derived from {why}")


def _show_fields(found: list[FieldOutcome]) -> None:
    lost = sum(field.how == "lost" for field in found)
    coerced = sum(field.how == "coerced" for field in found)
    click.echo()
    if not lost and not coerced:
        click.secho("nothing is lost", bold=True)
    else:
        click.secho(
            f"{lost} lost, {coerced} coerced, {len(found) - lost - coerced} kept", bold=True
        )
    rows = [
        (field.path, field.how, _short(field.value), reason)
        for field, reason in zip(found, _reasons(found), strict=True)
    ]
    console().print(table(("field", "", "value", "sent as, or reason"), rows))


def _reasons(found: list[FieldOutcome]) -> Iterator[str]:
    """Yield the reason of each field, or its place; a reason is told once, for the first field."""
    first: dict[str, FieldOutcome] = {}
    for field in found:
        why, _, remedy = field.why.partition(REMEDY)
        earlier = first.setdefault(why, field)
        if earlier is field or not why:
            yield field.why or field.to
        elif earlier.why == field.why:
            yield f"same reason as {earlier.path}"
        else:
            yield f"same reason as {earlier.path}" + (f"{REMEDY}{remedy}" if remedy else "")


def _short(value: Any) -> str:
    text = dumps(as_json(value), default=str).decode()
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _body(text: str) -> str:
    """Return a body for display: JSON is indented, other text is unchanged."""
    try:
        return _pretty(loads(text))
    except orjson.JSONDecodeError:
        return text


def _pretty(value: Any) -> str:
    return dumps(value, default=str, option=orjson.OPT_INDENT_2).decode()
