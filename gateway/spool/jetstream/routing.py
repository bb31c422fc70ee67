"""Which shard an entry belongs to: all entries of a user are in one shard."""

from zlib import crc32

from msgspec.structs import replace

from gateway.spool.values import Entry


def split_by_shard(entry: Entry, shards: int) -> dict[int, Entry]:
    """Return the entry by shard, with the deliveries that belong there.

    Deliveries of events without a user go with others of the entry; without any user, the shard
    follows from the request's id.
    """
    if len(entry.users) <= 1:
        user = entry.users[0] if entry.users else 0
        return {user % shards if user else _of_request(entry, shards): entry}
    users = {user for user in entry.users if user}
    found = sorted({user % shards for user in users}) or [_of_request(entry, shards)]
    if len(found) == 1:
        return {found[0]: entry}
    parts: dict[int, dict[str, tuple[int, ...]]] = {}
    for destination, numbers in entry.targets.items():
        taken: dict[int, list[int]] = {}
        for number in numbers:
            user = entry.user(number)
            taken.setdefault(user % shards if user else found[0], []).append(number)
        for shard, some in taken.items():
            parts.setdefault(shard, {})[destination] = tuple(some)
    return {shard: replace(entry, targets=targets) for shard, targets in parts.items()}


def _of_request(entry: Entry, shards: int) -> int:
    return crc32(entry.id.encode("utf-8", "surrogatepass")) % shards
