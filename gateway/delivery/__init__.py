"""From the spool to the destinations: one isolated worker each."""

from gateway.delivery.worker import Worker, WorkerState

__all__ = ["Worker", "WorkerState"]
