"""``gateway spool``: move what a spool holds to another one."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import click
import msgspec

from gateway.admin.destinations import Destination, Destinations
from gateway.admin.moving import Restored
from gateway.cli.admin_client import AdminClient, NoGateway, TryAgain
from gateway.cli.options import json_option
from gateway.config import SpoolConfig
from gateway.config.loader.load import load_spool
from gateway.observability import log
from gateway.spool import Spool
from gateway.spool.moved import MovedBatch
from gateway.spool.transfer import MoveCounts, SpoolMover, counts
from gateway.spools import open_alone

PATIENCE = 60.0
"""Seconds for which a batch is sent again while the new gateway cannot take it."""
_PAUSE = 1.0
_TELL = 2.0
"""Seconds between two lines of progress."""
_config = click.Path(path_type=Path, exists=True, dir_okay=False)


class MoveReport(msgspec.Struct, frozen=True):
    """The result of a move."""

    moved: MoveCounts
    """In a dry run, what would be."""
    left: MoveCounts
    """Of destinations that the new gateway does not have."""


@click.group("spool")
def spool() -> None:
    """Move what a spool holds to another one."""


@spool.command("move")
@click.argument("old", type=_config)
@click.argument("new", type=_config)
@click.option("--dry-run", is_flag=True, help="Only count what would be moved.")
@json_option("the result")
def move(old: Path, new: Path, *, dry_run: bool, as_json: bool) -> None:
    """Move everything in the spool of OLD to the running gateway of NEW.

    OLD and NEW are configuration files; either may name a folder or a cluster. Stop all gateways of
    OLD before. The gateway of NEW runs, and accepts events meanwhile; it is asked at the address in
    its [admin]. Moved are pending deliveries, dead letters, remembered message ids, consent and
    pauses. A waiting retry is due at once.

    The move may be stopped at any time: run it again, and it goes on where it was. Exits with 1 if
    something is left, as of destinations that NEW does not have.
    """
    log.configure(level=logging.ERROR)
    gateway = AdminClient(new)
    there = gateway.get("/destinations", Destinations).destinations
    report = asyncio.run(
        _move(
            load_spool(old, secrets=True),
            gateway,
            {one.name: one for one in there},
            dry_run=dry_run,
        )
    )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        for line in _lines(report, dry_run=dry_run):
            click.echo(line)
    if not dry_run and (report.left.deliveries or report.left.dead_letters):
        click.get_current_context().exit(1)


async def _move(
    config: SpoolConfig, gateway: AdminClient, there: Mapping[str, Destination], *, dry_run: bool
) -> MoveReport:
    async with open_alone(config) as old:
        before = await counts(old)
        if dry_run:
            return MoveReport(_of(before, there), _left(before, there))
        await _pause(old, gateway, there)
        sender = _Sender(gateway, sum(_of(before, there).deliveries.values()))
        mover = SpoolMover(old, there, sender.send)
        sender.moved = lambda: sum(mover.moved.deliveries.values())
        await mover.run()
        return MoveReport(mover.moved, _left(await counts(old), {}))


async def _pause(old: Spool, gateway: AdminClient, there: Mapping[str, Destination]) -> None:
    """Pause the new destinations whose old ones are paused."""
    for name in sorted(await old.paused()):
        if name in there and there[name].state != "paused":
            path = f"/destinations/{quote(name, safe='')}/pause"
            await asyncio.to_thread(gateway.post, path, Destination)
            click.echo(f"{name} is paused, as it was", err=True)


class _Sender:
    """Sends batches to the new gateway, again and again while it cannot take them.

    Args:
        gateway: the new one.
        total: the number of deliveries to move.

    Attributes:
        moved: returns how many were moved.
    """

    def __init__(self, gateway: AdminClient, total: int) -> None:
        self.moved: Callable[[], int] = lambda: 0
        self._gateway, self._total = gateway, total
        self._told = time.monotonic()

    async def send(self, batch: MovedBatch) -> None:
        """Return once the new gateway has the batch."""
        until, why = time.monotonic() + PATIENCE, ""
        while True:
            self._tell()
            try:
                await asyncio.to_thread(self._gateway.post, "/spool/move", Restored, batch)
            except (NoGateway, TryAgain) as error:
                if time.monotonic() >= until:
                    raise click.ClickException(
                        f"{error.message}\nNothing is lost: run the command again, and it goes on."
                    ) from error
                if error.message != why:
                    why = error.message
                    click.echo(f"waiting: {why}", err=True)
                await asyncio.sleep(_PAUSE)
            else:
                return

    def _tell(self) -> None:
        if time.monotonic() - self._told >= _TELL:
            self._told = time.monotonic()
            click.echo(f"moved {self.moved():,} of {self._total:,} deliveries", err=True)


def _of(found: MoveCounts, destinations: Collection[str]) -> MoveCounts:
    """Return what can be moved to a gateway with some destinations."""
    return msgspec.structs.replace(
        found,
        deliveries={n: count for n, count in found.deliveries.items() if n in destinations},
        dead_letters={n: count for n, count in found.dead_letters.items() if n in destinations},
    )


def _left(found: MoveCounts, destinations: Collection[str]) -> MoveCounts:
    """Return what of other destinations there is."""
    return MoveCounts(
        {n: count for n, count in found.deliveries.items() if n not in destinations},
        {n: count for n, count in found.dead_letters.items() if n not in destinations},
    )


def _lines(report: MoveReport, *, dry_run: bool) -> Iterator[str]:
    moved, left = report.moved, report.left
    yield "would be moved:" if dry_run else "moved:"
    yield f"  {_count(moved.deliveries, 'pending delivery', 'pending deliveries')}"
    yield f"  {_count(moved.dead_letters, 'dead letter', 'dead letters')}"
    yield f"  {moved.message_ids:,} remembered message id{'' if moved.message_ids == 1 else 's'}"
    yield f"  consent of {moved.consents:,} user{'' if moved.consents == 1 else 's'}"
    if left.deliveries or left.dead_letters:
        yield "left, since the new gateway does not have these destinations:"
        yield f"  {_count(left.deliveries, 'pending delivery', 'pending deliveries')}"
        yield f"  {_count(left.dead_letters, 'dead letter', 'dead letters')}"
    elif not dry_run:
        yield "nothing is left"


def _count(numbers: Mapping[str, int], one: str, many: str) -> str:
    total = sum(numbers.values())
    where = ", ".join(f"{name} {number:,}" for name, number in sorted(numbers.items()))
    return f"{total:,} {one if total == 1 else many}" + (f" ({where})" if where else "")
