"""How a worker is doing, for those who ask."""

from typing import TYPE_CHECKING, NamedTuple

from gateway.delivery.gate import State

if TYPE_CHECKING:
    from gateway.delivery.worker import Worker


class WorkerState(NamedTuple):
    """How a worker is doing; the counts are since it began."""

    circuit: State
    reason: str
    """Why the circuit is not closed."""
    paused: bool
    in_hand: int
    delivered: int
    declined: int
    dead: int
    retried: int
    shadowed: int
    """Events that a shadow has looked at; they count as nothing else."""


def state_of(worker: "Worker") -> WorkerState:
    """Return how *worker* is doing."""
    return WorkerState(
        worker.gate.state,
        worker.gate.reason,
        worker.paused,
        worker.ledger.in_hand,
        worker.delivered,
        worker.declined,
        worker.burials.count,
        worker.retried,
        worker.shadowed,
    )
