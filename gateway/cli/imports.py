"""``gateway import``: take exported requests in again, through a source."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

from gateway.admin.imports import ImportResult
from gateway.cli.admin_client import AdminClient, NoGateway, TryAgain
from gateway.cli.completion import complete_configured
from gateway.cli.options import config_option, json_option
from gateway.cli.output import printable
from gateway.replay.exported import ExportedRequest
from gateway.replay.importer import ImportCounts

BATCH_BYTES = 1024 * 1024
"""Bytes of lines at which a call is full; the last line may exceed it."""
BATCH_LINES = 500
LONGEST_LINE = 32 * 1024 * 1024
"""Bytes; the call of one line must not be too large."""
PATIENCE = 60.0
"""Seconds for which a call is repeated while the gateway cannot take it."""
PAUSE = 1.0
"""Seconds between two attempts."""
TELL = 2.0
"""Seconds between two lines of progress."""
NEUTRAL = "a neutral event, which no source reads; export with --as-received"


class ImportReport(msgspec.Struct):
    """The result of an import."""

    counts: ImportCounts
    refused: int = 0
    """Lines that were skipped."""


class _Line(msgspec.Struct, frozen=True):
    """A line to import, and where it is."""

    file: str
    number: int
    request: ExportedRequest


@click.command("import")
@click.argument("files", metavar="FILE...", type=click.File("rb"), nargs=-1, required=True)
@config_option
@click.option(
    "--source",
    shell_complete=complete_configured("sources"),
    help="The source that takes the requests. Default: the one that each line names.",
)
@click.option(
    "--from-line", type=click.IntRange(1), default=1, help="Begin with this line of the file."
)
@click.option("--dry-run", is_flag=True, help="Check all lines and count them; store nothing.")
@json_option("the result")
def import_(  # noqa: PLR0913 - one parameter per option
    files: Sequence[BinaryIO],
    path: Path,
    *,
    source: str | None,
    from_line: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take exported requests in again, through a source.

    The files are those of `gateway export --as-received`; - is standard input. The running gateway
    parses, checks, routes and stores the requests like new ones. They keep their message ids and
    the time of their arrival. Only keys and addresses are not checked.

    Lines that cannot be imported are named and skipped; the exit status is 1 then. The import may
    be stopped at any time and run again: what is known already is left out.
    """
    if from_line > 1 and len(files) > 1:
        raise click.UsageError("--from-line needs a single FILE")
    importing = _Import(AdminClient(path), source, dry_run=dry_run)
    for file in files:
        for number, line in enumerate(file, 1):
            if number >= from_line and line.strip():
                importing.add(getattr(file, "name", "-"), number, line)
    importing.send()
    report = importing.report
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        for text in _lines(report, dry_run=dry_run):
            click.echo(text)
    if report.refused:
        click.get_current_context().exit(1)


class _Import:
    """Sends lines in batches, and counts what becomes of them.

    Args:
        gateway: the running gateway.
        source: takes the requests; None for the source of each line.
        dry_run: store nothing.
    """

    def __init__(self, gateway: AdminClient, source: str | None, *, dry_run: bool) -> None:
        self.report = ImportReport(ImportCounts())
        self._gateway = gateway
        self._given: dict[str, Any] = {"dry_run": dry_run}
        if source is not None:
            self._given["source"] = source
        self._batch: list[_Line] = []
        self._size = 0
        self._told = time.monotonic()

    def add(self, file: str, number: int, line: bytes) -> None:
        """Take a line, and send the batch if it is full."""
        if len(line) > LONGEST_LINE:
            self._refuse(file, number, f"longer than {LONGEST_LINE} bytes")
            return
        try:
            request = msgspec.json.decode(line, type=ExportedRequest)
        except (msgspec.DecodeError, RecursionError) as error:
            self._refuse(file, number, NEUTRAL if _is_neutral(line) else str(error))
            return
        self._batch.append(_Line(file, number, request))
        self._size += len(line)
        if self._size >= BATCH_BYTES or len(self._batch) >= BATCH_LINES:
            self.send()

    def send(self) -> None:
        """Send the lines that wait, and return once they are durable."""
        if not self._batch:
            return
        batch, self._batch, self._size = self._batch, [], 0
        answer = self._posted(batch)
        for name in ImportCounts.__struct_fields__:
            counts = self.report.counts
            setattr(counts, name, getattr(counts, name) + getattr(answer, name))
        for one in answer.refused:
            self._refuse(batch[one.index].file, batch[one.index].number, one.reason)
        if time.monotonic() - self._told >= TELL:
            self._told = time.monotonic()
            last = batch[-1]
            done = f"{self.report.counts.requests:,} requests"
            click.echo(f"{done}, up to {printable(last.file)}:{last.number}", err=True)

    def _posted(self, batch: Sequence[_Line]) -> ImportResult:
        body = {**self._given, "requests": [line.request for line in batch]}
        until, why = time.monotonic() + PATIENCE, ""
        while True:
            try:
                return self._gateway.post("/import", ImportResult, body)
            except (NoGateway, TryAgain) as error:
                if time.monotonic() >= until:
                    where = f"{printable(batch[0].file)}:{batch[0].number}"
                    raise click.ClickException(
                        f"{error.message}\nEverything before {where} is imported. Run the command "
                        f"again: with --from-line {batch[0].number}, or whole."
                    ) from error
                if error.message != why:
                    why = error.message
                    click.echo(f"waiting: {why}", err=True)
                time.sleep(PAUSE)

    def _refuse(self, file: str, number: int, reason: str) -> None:
        self.report.refused += 1
        click.echo(printable(f"{file}:{number}: {reason}"), err=True)


def _is_neutral(line: bytes) -> bool:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(found, dict) and "event" in found and "method" not in found


def _lines(report: ImportReport, *, dry_run: bool) -> list[str]:
    counts = report.counts
    requests = _count(counts.requests, "request")
    done = "would import" if dry_run else "imported"
    lines = [f"{done} {requests} with {_count(counts.events, 'event')}"]
    if counts.repeated:
        lines.append(f"left out {_count(counts.repeated, 'event')} that the gateway had already")
    if counts.suppressed:
        people = "of people on the suppression list"
        lines.append(f"left out {_count(counts.suppressed, 'event')} {people}")
    if counts.unrouted:
        lines.append(f"did not store {_count(counts.unrouted, 'request')} that no route takes")
    if report.refused:
        lines.append(f"skipped {_count(report.refused, 'line')}, named above")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
