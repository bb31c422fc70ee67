"""Count, explain and log the deliveries that a spool evicts or refuses."""

import structlog

from gateway.spool.values import Cause, GivenUp

log = structlog.get_logger()


def count_evicted(counts: dict[str, GivenUp], destination: str, dead: int, dropped: int) -> None:
    """Add deliveries of a destination, dead letters and dropped ones, to the counts."""
    known = counts.get(destination, GivenUp())
    counts[destination] = GivenUp(known.dead + dead, known.dropped + dropped)


def log_evicted(destination: str, cause: Cause, reason: str, dead: int, dropped: int) -> None:
    """Log how many deliveries became dead letters or were dropped."""
    log.warning(
        "deliveries_evicted",
        destination=destination,
        cause=cause,
        dead_letters=dead,
        dropped=dropped,
        reason=reason,
    )


def backlog_full(destination: str, max_backlog: int | None) -> str:
    """Return why a destination accepts nothing new at its ``max_backlog``."""
    return (
        f"destination {destination!r} has reached max_backlog ({max_backlog}); check why its "
        f"deliveries fail"
    )


def full_reason(reason: str, last: str) -> str:
    """Return why a delivery was evicted, with the reason why it waited, if any."""
    return f"{reason}; {last}" if last else reason
