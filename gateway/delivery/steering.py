"""What an operator may tell a worker: to pause, to go on, to try everything at once."""

from typing import TYPE_CHECKING

from gateway.delivery.clock import steady

if TYPE_CHECKING:
    from gateway.delivery.worker import Worker


def pause(worker: "Worker") -> None:
    """Let nothing new go; what is on its way arrives, and what comes in stays in the spool."""
    worker.paused = True


def resume(worker: "Worker") -> None:
    """Go on where the worker was paused."""
    worker.paused = False
    worker.go()


async def drain(worker: "Worker") -> None:
    """Let all that is owed go at once, whatever it waited for; the rate limit stays.

    Raises:
        SpoolError: the spool cannot tell what waits.
    """
    await worker.ledger.flush()
    worker.gate.hurry()
    await worker.backlog.bring_by(steady())
    worker.go()
