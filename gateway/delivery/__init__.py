"""From the spool to the destinations: one isolated worker each."""

from gateway.delivery.state import WorkerState, state_of
from gateway.delivery.worker import Worker

__all__ = ["Worker", "WorkerState", "state_of"]
