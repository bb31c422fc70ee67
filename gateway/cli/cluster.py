"""``gateway cluster``: the gateways that share a log, its shards, and the servers that hold it."""

from pathlib import Path

import click
import msgspec
from rich.text import Text

from gateway.admin.cluster import ClusterStatus
from gateway.cli.admin_client import AdminClient
from gateway.cli.options import config_option, json_option
from gateway.cli.output import RedactingConsole, console, table, title
from gateway.cli.status import print_findings, styled
from gateway.observability.health_texts import spoken
from gateway.spool.cluster import ClusterNode, ClusterShard, ClusterStream


@click.group("cluster")
def cluster() -> None:
    """Show the gateways, shards and NATS streams of a cluster."""


@cluster.command("status")
@config_option
@json_option("all of it")
def status(path: Path, *, as_json: bool) -> None:
    """Show the gateways of the cluster, the owners of the shards, and the streams of NATS.

    Exits with 0 if the cluster is healthy, with 1 if something is wrong with it or no gateway
    answers.
    """
    found = AdminClient(path).get("/cluster", ClusterStatus)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        _print(found, console())
    if not found.healthy:
        raise click.exceptions.Exit(1)


def _print(found: ClusterStatus, out: RedactingConsole) -> None:
    healthy = "healthy" if found.healthy else found.findings[0].level
    out.print(styled(healthy), title(f": as {found.node} sees it"), sep="")
    if found.findings:
        out.print(title("\nProblems"))
    print_findings(found.findings, out)
    own = next(one.config for one in found.nodes if one.name == found.node)
    out.print(title("\nGateways"))
    columns = ("name", "state", "version", "up for", "shards", "configuration")
    out.print(table(columns, (_node(one, found, own) for one in found.nodes)))
    out.print(title("\nShards"))
    made = table(("shard", "owner", "epoch", "pending", "behind"), map(_shard, found.shards))
    out.print(made)
    out.print(title("\nStreams"))
    out.print(table(("name", "leader", "replicas", "away or behind"), map(_stream, found.streams)))


def _node(one: ClusterNode, found: ClusterStatus, own: str) -> tuple[str | Text, ...]:
    shards = sum(shard.owner == one.name for shard in found.shards)
    up = spoken(found.now - one.started) if one.started and one.state != "gone" else ""
    if one.state == "gone":
        up = f"silent for {spoken(one.silent)}"
    differs = one.config != own and one.state != "gone"
    config = Text(f"{one.config[:8]} (differs)" if differs else one.config[:8])
    config.stylize("yellow" if differs else "")
    return one.name, styled(one.state), one.version, up, str(shards), config


def _shard(one: ClusterShard) -> tuple[str | Text, ...]:
    owner = one.owner or Text("nobody", style="red")
    pending = "?" if one.pending is None else f"{one.pending:,}"
    behind = spoken(one.lag) if one.lag is not None and one.lag >= 1 else ""
    return str(one.number), owner, str(one.epoch), pending, behind


def _stream(one: ClusterStream) -> tuple[str | Text, ...]:
    well = one.current >= one.replicas > 0
    have = f"{one.current} of {one.replicas}" if one.current else "no answer"
    return one.name, one.leader, Text(have, style="" if well else "red"), ", ".join(one.behind)
