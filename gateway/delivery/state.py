"""How a worker is doing, for those who ask."""

from typing import NamedTuple

from gateway.delivery.gate import State


class WorkerState(NamedTuple):
    """How a worker is doing."""

    circuit: State
    reason: str
    """Why the circuit is not closed."""
    in_hand: int
    delivered: int
    declined: int
    dead: int
    retried: int
    shadowed: int = 0
    """Events that a shadow has looked at; they count as nothing else."""
