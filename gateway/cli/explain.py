"""``gateway explain``: show what the gateway would do with one request."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click

from gateway.cli.completion import complete_configured
from gateway.cli.options import config_option
from gateway.cli.output import console
from gateway.cli.text import print_explanation
from gateway.config.loader.load import load
from gateway.config.types import client_address
from gateway.explain import Explainer, ExplainRequest
from gateway.plugin.registry import load_plugins

START = re.compile(rb"([A-Z]+) (\S+)(?: HTTP/[\d.]+)?\r?\n")
"""The request line (RFC 9112, section 3); the version may be left out."""

BLANK = re.compile(rb"\r?\n\r?\n")


def _checked_ip(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        client_address(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from error
    return value


@click.command("explain")
@config_option
@click.option(
    "--from",
    "source",
    metavar="SOURCE",
    shell_complete=complete_configured("sources"),
    default="",
    help="The source that gets the request; its key is not checked. Without it and with --path, "
    "the path, the host and the key choose the source; with only one, the key may be missing.",
)
@click.option(
    "--path", "posted", metavar="PATH", default="", help="The path of the request, such as /push."
)
@click.option(
    "--header",
    "headers",
    metavar="NAME:VALUE",
    multiple=True,
    help="A header of the request. May be repeated.",
)
@click.option(
    "--ip",
    metavar="ADDRESS",
    default="",
    callback=_checked_ip,
    help="The IP address of the user's device. Without it, a server sent the request.",
)
@click.option(
    "--consent",
    "consented",
    metavar="CATEGORY",
    multiple=True,
    help="A category that the user consented to earlier. May be repeated.",
)
@click.argument("file", type=click.File("rb"))
def explain(  # noqa: PLR0913 - one parameter per option
    file: IO[bytes],
    *,
    path: Path,
    headers: tuple[str, ...],
    consented: tuple[str, ...],
    source: str,
    posted: str,
    ip: str,
) -> None:
    """Show what the gateway would do with one request, without sending anything.

    Prints the routes, the steps, the outgoing requests and the losses. FILE holds the body, or the
    whole request from "POST /push HTTP/1.1" on; use - for standard input. A body alone needs --from
    if there are several sources, and --path if several endpoints accept it. Environment variables
    and secret files that do not exist here are replaced by placeholders.

    \b
        gateway explain order.json
        gateway explain --from shop --path /push order.json
    """  # noqa: D301 - click takes the escape for "leave these lines as they are"
    body = file.read()
    given = dict(_header(header) for header in headers)
    if (start := START.match(body)) is not None:
        head, body = _head_and_body(body[start.end() :])
        given = dict(_header(line) for line in head.splitlines()) | given
        posted = posted or f"{start[1].decode()} {start[2].decode('utf-8', 'replace')}"
    registry = load_plugins()
    config = load(path, registry, stand_ins=True)
    if consented and config.consent.retention is None:
        raise click.UsageError(
            f"--consent: {path} does not store consent; set retention in [consent] first"
        )
    explainer = Explainer(config, registry)
    granted = dict.fromkeys(consented, True)
    request = ExplainRequest(body, source, posted, given, datetime.now(UTC), ip, granted, "--{}")
    print_explanation(explainer.explain(request), console(hide=explainer.redactor.text))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise click.UsageError(f"the header {text!r} has no colon; write NAME:VALUE")
    return name.strip().lower(), value.strip()


def _head_and_body(rest: bytes) -> tuple[str, bytes]:
    """Split what follows the request line at the empty line: into header lines and body."""
    if rest.startswith((b"\n", b"\r\n")):
        return "", rest.partition(b"\n")[2]
    parts = BLANK.split(rest, maxsplit=1)
    return parts[0].decode("utf-8", "replace"), parts[1] if len(parts) > 1 else b""
