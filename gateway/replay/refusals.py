"""Why a replay cannot deliver with the configuration as it is now."""

from collections.abc import Mapping
from typing import Protocol

from gateway.delivery import Team
from gateway.errors import GatewayError
from gateway.routing.router import Router
from gateway.spool.replays import ReplaySelection


class ReplayRefused(GatewayError):
    """A replay cannot deliver with the configuration as it is now."""


class NoDestination(ReplayRefused):
    """A replay's destination is not configured.

    Args:
        to: the destination.
    """

    def __init__(self, to: str) -> None:
        super().__init__(f"there is no destination {to}; configure it again, or cancel the replay")


class ConsentNotAsked(ReplayRefused):
    """Routes to a replay's destination ask for consent, and it does not ask them.

    Args:
        to: the destination.
    """

    def __init__(self, to: str) -> None:
        super().__init__(
            f"routes to {to} ask for consent; replay with --through-routes "
            f"(through_routes in the API), so that they are asked"
        )


class ReplayTargets(Protocol):
    """The destinations of the running gateway, and the routes; a reload may replace both."""

    @property
    def teams(self) -> Mapping[str, Team]:
        """Return the destinations' teams, by name."""

    @property
    def router(self) -> Router:
        """Return the router."""


def find_refusal(selection: ReplaySelection, services: ReplayTargets) -> ReplayRefused | None:
    """Return why a replay cannot deliver now; None if it can."""
    to = selection.to
    if to not in services.teams:
        return NoDestination(to)
    if not selection.through_routes and to in services.router.need_consent:
        return ConsentNotAsked(to)
    return None
