"""``gateway erase``: take a person out of everything that the running gateway stores."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from gateway.admin.erasure import Erasure
from gateway.cli.admin_client import AdminClient
from gateway.cli.options import config_option, json_option

TIMEOUT = 3600.0
"""Seconds; a large spool is read as a whole."""


@click.command("erase")
@config_option
@click.option(
    "--user",
    "ids",
    metavar="ID",
    multiple=True,
    required=True,
    help="A user id, anonymous id, device id, session id or e-mail address of the person. May be "
    "repeated: the gateway does not know which ids belong together.",
)
@json_option("what was taken")
def erase(path: Path, ids: Sequence[str], *, as_json: bool) -> None:
    """Erase a person from the spool, dead letters, traces, consent and deduplication.

    Asks the running gateway, and prints what was taken. Deliveries under way end first. Events that
    arrive meanwhile may stay, so put the person on the suppression list before.
    """
    if not all(one.strip() for one in ids):
        raise click.BadParameter("it is blank; give an id of the person", param_hint="--user")
    gateway = AdminClient(path, timeout=TIMEOUT)
    taken = gateway.post("/erase", Erasure, {"ids": list(ids)})
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(taken)))
        return
    for line in _lines(taken):
        click.echo(line)


def _lines(taken: Erasure) -> Iterator[str]:
    yield "erased:"
    yield f"  {_count(taken.deliveries, 'pending delivery', 'pending deliveries')}"
    yield f"  {_count(taken.dead_letters, 'dead letter', 'dead letters')}"
    for number, one, many in (
        (taken.requests, "stored request", "stored requests"),
        (taken.message_ids, "remembered message id", "remembered message ids"),
        (taken.consents, "record of consent", "records of consent"),
        (taken.traces, "trace record", "trace records"),
    ):
        yield f"  {number:,} {one if number == 1 else many}"
    if shared := taken.shared_requests:
        requests = "1 request has" if shared == 1 else f"{shared:,} requests have"
        yield ""
        yield f"{requests} events of others too, and stays stored until those are delivered and"
        yield "their dead letters deleted. Then erase again."


def _count(numbers: Mapping[str, int], one: str, many: str) -> str:
    total = sum(numbers.values())
    where = ", ".join(f"{name} {number:,}" for name, number in sorted(numbers.items()))
    return f"{total:,} {one if total == 1 else many}" + (f" ({where})" if where else "")
