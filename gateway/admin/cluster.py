"""The endpoint for the state of the cluster."""

import msgspec

from gateway.admin.context import AdminContext, ApiProblem
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.observability.health_model import HealthFinding, judge_cluster
from gateway.spool.cluster import ClusterNode, ClusterShard, ClusterStream

ALONE = "this gateway is not one of a cluster: [spool] has no url"


class ClusterStatus(msgspec.Struct, frozen=True):
    """The cluster, as the gateway that answers sees it."""

    now: float
    """Unix seconds of the gateway's clock."""
    node: str
    """The gateway that answers."""
    healthy: bool
    """Whether there is no finding."""
    findings: list[HealthFinding]
    """What is wrong with the cluster, the worst first; also a part of `/health`."""
    nodes: list[ClusterNode]
    shards: list[ClusterShard]
    streams: list[ClusterStream]


@endpoint("GET", "/cluster", refuses={409: "The gateway is not one of a cluster."})
async def show_cluster(context: AdminContext) -> ClusterStatus:
    """Show the gateways of the cluster, the owners of the shards, and the streams of NATS.

    What does not answer within two seconds is shown as such.
    """
    spool = context.gateway.spool
    if spool.cluster is None:
        raise ApiProblem(409, ALONE)
    found = await spool.cluster()
    findings = judge_cluster(found)
    return ClusterStatus(
        spool.clock.of_day(),
        found.node,
        not findings,
        findings,
        found.nodes,
        found.shards,
        found.streams,
    )


ENDPOINTS: tuple[Endpoint, ...] = (show_cluster,)
