"""Deliver events from the spool: one independent worker per destination."""

from gateway.delivery.worker import Worker, WorkerStatus

__all__ = ["Worker", "WorkerStatus"]
