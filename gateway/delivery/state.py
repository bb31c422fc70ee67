"""How a worker is doing, for those who ask."""

from typing import NamedTuple

from gateway.delivery.circuit_breaker import State
from gateway.delivery.worker import Worker


class WorkerState(NamedTuple):
    """How a worker is doing; the counts are since it began."""

    circuit: State
    reason: str
    """What the last attempt in vain said."""
    paused: bool
    in_hand: int
    delivered: int
    declined: int
    dead: int
    retried: int
    shadowed: int
    """Events that a shadow has looked at; they count as nothing else."""
    paused_for: float = 0.0
    """Seconds for which the vendor asked for no attempts."""


def state_of(worker: Worker) -> WorkerState:
    """Return how *worker* is doing."""
    breaker = worker.breaker
    return WorkerState(
        breaker.state,
        breaker.reason or "",
        worker.paused,
        worker.tracker.open_entries,
        worker.delivered,
        worker.declined,
        worker.burials.count,
        worker.retried,
        worker.shadowed,
        worker.paused_for,
    )
