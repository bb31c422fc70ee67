"""``gateway explain``."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click

from gateway.cli.output import config_option, console
from gateway.cli.text import print_explanation
from gateway.config.loader.load import load
from gateway.explain import Explainer, ExplainRequest
from gateway.plugin.registry import load_plugins

START = re.compile(rb"([A-Z]+) (\S+)(?: HTTP/[\d.]+)?\r?\n")
"""The first line of a request (RFC 9112, section 3)."""

BLANK = re.compile(rb"\r?\n\r?\n")


@click.command("explain")
@config_option
@click.option("--from", "source", metavar="SOURCE", default="", help="Through which source.")
@click.option(
    "--path", "posted", metavar="PATH", default="", help="Where it is posted, such as /push."
)
@click.option("--header", "headers", metavar="NAME:VALUE", multiple=True, help="A header of it.")
@click.option("--ip", metavar="ADDRESS", default="", help="Whose device sent it; else a backend.")
@click.option(
    "--consent",
    "consented",
    metavar="CATEGORY",
    multiple=True,
    help="What the user consented to before.",
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
    """Show what becomes of one request: verdicts, steps, outgoing requests, losses.

    FILE holds the request: its body, or all of it, from "POST /push HTTP/1.1" on; - reads it from
    standard input. A body alone needs --from where there are several sources, and --path where
    several endpoints take it. With --from the credential is not asked for. Nothing is sent, and
    credentials that are not set here are stood in for.

    \b
        gateway explain order.json
        gateway explain --from shop --path /push order.json
    """  # noqa: D301 - click takes the escape for "leave these lines as they are"
    body = file.read()
    own = dict(_header(header) for header in headers)
    if (start := START.match(body)) is not None:
        head, body = _parted(body[start.end() :])
        own = dict(_header(line) for line in head.splitlines()) | own
        posted = posted or f"{start[1].decode()} {start[2].decode('utf-8', 'replace')}"
    registry = load_plugins()
    config = load(path, registry, stand_ins=True)
    if consented and config.consent.retention is None:
        raise click.UsageError(f"--consent: {path} remembers nothing; see [consent] retention")
    explaining = Explainer(config, registry)
    granted = dict.fromkeys(consented, True)
    asked = ExplainRequest(body, source, posted, own, datetime.now(UTC), ip, granted)
    print_explanation(explaining.explain(asked), console(hide=explaining.redactor.text))


def _header(written: str) -> tuple[str, str]:
    name, colon, value = written.partition(":")
    if not colon:
        raise click.UsageError(f"the header {written!r} has no colon; write NAME:VALUE")
    return name.strip().lower(), value.strip()


def _parted(rest: bytes) -> tuple[str, bytes]:
    """Return the lines of the headers, and the body that follows an empty line."""
    if rest.startswith((b"\n", b"\r\n")):
        return "", rest.partition(b"\n")[2]
    parts = BLANK.split(rest, maxsplit=1)
    return parts[0].decode("utf-8", "replace"), parts[1] if len(parts) > 1 else b""
