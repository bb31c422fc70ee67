"""The places of what is pending, without the requests."""

import msgspec

from gateway.spool import Mark, Progress, Spool, user_hash
from gateway.testing.spool.contract import SpoolContract, entry, later


class UnreadSuite(SpoolContract):
    """What ``Spool.unread`` says of the log."""

    async def test_places_are_told_without_the_requests(self, spool: Spool) -> None:
        """Each pending entry is told with its source, its deliveries and their users' hashes."""
        users = (user_hash("ann"), user_hash(""), user_hash("zoë\ud800"))
        assert users[1] == 0
        assert 0 not in {users[0], users[2]}
        one = msgspec.structs.replace(entry("r0", a=(0, 2), b=(1,)), users=users)
        await spool.append(one)
        await spool.append(msgspec.structs.replace(entry("r1", a=(0,)), source="app"))
        await spool.append(msgspec.structs.replace(one, id="r2", targets={"a": (0, 1, 2)}))
        await spool.settle("a", Progress(later=[later(3, 0)]))
        found = (await spool.unread("a", 0, 3, 10)).items
        assert [(x.seq, x.source, x.vendor, x.numbers, x.users) for x in found] == [
            (1, "shop", "chrts", (0, 2), (users[0], users[2])),
            (2, "app", "chrts", (0,), (0,)),
            (3, "shop", "chrts", (1, 2), (users[1], users[2])),
        ]
        assert [x.users for x in (await spool.unread("b", 0, 3, 10)).items] == [(users[1],)]
        assert (await spool.entries([1]))[0].entry == one

    async def test_what_is_excepted_is_left_out_and_paging_goes_on(self, spool: Spool) -> None:
        """A page without anything pending still says how far the log was looked at."""
        for i in range(6):
            await spool.append(entry(f"r{i}", a=(0,)))
        await spool.settle("a", Progress(later=[later(1)], done=[Mark(2, 0)]))
        page = await spool.unread("a", 0, 6, 2)
        assert (page.items, page.scanned) == ([], 2)
        page = await spool.unread("a", page.scanned, 5, 10)
        assert ([x.seq for x in page.items], page.scanned) == ([3, 4, 5], 5)
