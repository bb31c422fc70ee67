"""The endpoint for the health of the whole gateway."""

from gateway.admin.context import AdminContext
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.observability.health_model import GatewayHealth


@endpoint("GET", "/health")
async def show_health(context: AdminContext) -> GatewayHealth:
    """Show the states of sources, destinations and the spool, and what to do about problems.

    The overview, `/readyz`, alerts and metrics show the same states.
    """
    return await context.gateway.monitor.read()


ENDPOINTS: tuple[Endpoint, ...] = (show_health,)
