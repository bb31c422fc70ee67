"""Groups of dead letters by destination, cause and reason pattern."""

from collections.abc import Iterable

from msgspec.structs import replace

from gateway.spool.dead_letters import DeadLetter, DeadLetterGroup, reason_pattern


class LetterGroups:
    """Adds groups up that have the same destination, cause and reason pattern."""

    def __init__(self, groups: Iterable[DeadLetterGroup] = ()) -> None:
        self._groups: dict[tuple[str, str, str], DeadLetterGroup] = {}
        for group in groups:
            self.add(group)

    def add(self, group: DeadLetterGroup) -> None:
        """Add a group, or a part of one."""
        key = (group.destination, group.cause, group.reason_pattern)
        known = self._groups.get(key)
        self._groups[key] = group if known is None else _together(known, group)

    def largest(self, limit: int | None = None) -> list[DeadLetterGroup]:
        """Return the groups, the largest first."""
        order = sorted(self._groups.values(), key=lambda group: (-group.count, -group.last))
        return order[:limit]


def group_of(letter: DeadLetter) -> DeadLetterGroup:
    """Return the group of one dead letter."""
    return DeadLetterGroup(
        letter.destination,
        letter.cause,
        reason_pattern(letter.reason),
        letter.reason,
        count=1,
        first=letter.at,
        last=letter.at,
        newest=letter.id,
    )


def _together(one: DeadLetterGroup, other: DeadLetterGroup) -> DeadLetterGroup:
    return replace(
        one,
        count=one.count + other.count,
        first=min(one.first, other.first),
        last=max(one.last, other.last),
        newest=max(one.newest, other.newest),
    )
