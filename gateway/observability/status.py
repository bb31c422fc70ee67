"""The running gateway, as health pages, metrics and alerts see it."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from gateway.config import Config
from gateway.delivery import Worker
from gateway.ingest.connection_limits import Guard
from gateway.observability.observer import Observer
from gateway.routing.router import Router
from gateway.spool import Spool
from gateway.tracking import ViolationCounter


class LastReload(NamedTuple):
    """How the configuration file was last read."""

    successful: bool
    loaded_at: float
    """Unix seconds at which the configuration in force was loaded."""


class GatewayStatus(Protocol):
    """The running gateway, as those see it who ask how it is doing."""

    @property
    def config(self) -> Config:
        """Return the configuration in force."""

    @property
    def spool(self) -> Spool:
        """Return where events are kept."""

    @property
    def workers(self) -> Mapping[str, Worker]:
        """Return the workers by destination."""

    @property
    def router(self) -> Router:
        """Return which destinations an event goes to."""

    @property
    def observer(self) -> Observer:
        """Return what counts and records."""

    @property
    def tally(self) -> ViolationCounter:
        """Return what counts events that are not as planned."""

    @property
    def guard(self) -> Guard:
        """Return what keeps clients' connections within their limits."""

    @property
    def last_reload(self) -> LastReload:
        """Return how the configuration file was last read."""

    def not_ready_reason(self) -> str | None:
        """Return why no event is taken; None when some are."""

    def refusing(self) -> Mapping[str, str]:
        """Return why a destination takes no new events, by name."""
