"""From the spool to the destinations: one isolated worker each."""

from gateway.delivery.worker import Worker, WorkerStatus

__all__ = ["Worker", "WorkerStatus"]
