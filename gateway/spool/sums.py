"""Add up what several shards tell of their destinations."""

from collections.abc import Iterable, Mapping

from gateway.spool.values import Balance, QueueDepth


def sum_of_depths(parts: Iterable[Mapping[str, QueueDepth]]) -> dict[str, QueueDepth]:
    """Return the depth of each destination; a sum has no cursor."""
    found: dict[str, QueueDepth] = {}
    for part in parts:
        for name, depth in part.items():
            known = found.get(name)
            found[name] = depth if known is None else _both_depths(known, depth)
    return found


def sum_of_balances(parts: Iterable[Mapping[str, Balance]]) -> dict[str, Balance]:
    """Return the balance of each destination."""
    found: dict[str, Balance] = {}
    for part in parts:
        for name, balance in part.items():
            known = found.get(name)
            found[name] = balance if known is None else _both_balances(known, balance)
    return found


def _both_depths(one: QueueDepth, other: QueueDepth) -> QueueDepth:
    return QueueDepth(
        0,
        one.backlog + other.backlog,
        one.retrying + other.retrying,
        one.parked + other.parked,
        one.dead_letters + other.dead_letters,
        _earliest(one.oldest, other.oldest),
        _earliest(one.oldest_unread, other.oldest_unread),
    )


def _earliest(*times: float | None) -> float | None:
    return min((at for at in times if at is not None), default=None)


def _both_balances(one: Balance, other: Balance) -> Balance:
    fields = Balance.__struct_fields__
    return Balance(**{field: getattr(one, field) + getattr(other, field) for field in fields})
