"""Deliver events from the spool: one independent team per destination."""

from gateway.delivery.team import Team, TeamStatus
from gateway.delivery.worker import Worker

__all__ = ["Team", "TeamStatus", "Worker"]
