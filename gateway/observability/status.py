"""The running gateway as health pages, metrics and alerts use it."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from gateway.config import Config
from gateway.delivery import Team
from gateway.ingest.connection_limits import Guard
from gateway.observability.observer import Observer
from gateway.routing.router import Router
from gateway.spool import Spool
from gateway.tracking import ViolationCounter


class LastReload(NamedTuple):
    """The result of the last reload."""

    successful: bool
    loaded_at: float
    """Unix seconds at which the configuration in effect was loaded."""


class GatewayStatus(Protocol):
    """The parts of the running gateway that are observed."""

    @property
    def config(self) -> Config:
        """Return the configuration in effect."""

    @property
    def spool(self) -> Spool:
        """Return the spool."""

    @property
    def teams(self) -> Mapping[str, Team]:
        """Return the teams by destination."""

    @property
    def router(self) -> Router:
        """Return the router."""

    @property
    def observer(self) -> Observer:
        """Return the observer."""

    @property
    def tally(self) -> ViolationCounter:
        """Return the counters of tracking plan violations."""

    @property
    def guard(self) -> Guard:
        """Return the limits of client connections."""

    @property
    def last_reload(self) -> LastReload:
        """Return the result of the last reload."""

    def not_ready_reason(self) -> str | None:
        """Return why no events are accepted; None if some are."""

    def unready_reason(self) -> str | None:
        """Return why a load balancer should send nothing here; None if it may."""

    def refusing(self) -> Mapping[str, str]:
        """Return the destinations that accept no new events, with the reason."""
