"""New entries of the log reach the workers of their destinations."""

import asyncio
from collections.abc import Sequence

from gateway.event import Event
from gateway.http import Request, Response
from gateway.ingest.hand_over import HandOver
from gateway.ingest.upstream_reply import UpstreamReplies
from gateway.spool import Entry, LogRecord

ENTRY = Entry("r", "shop", Request(method="POST", url="/"), {"crm": (0,), "ads": (0, 1)})
REPLIES = UpstreamReplies(lambda _: None)


class Queue:
    """A worker that keeps what it is offered."""

    def __init__(self) -> None:
        self.offered: list[tuple[LogRecord, Sequence[Event]]] = []

    def offer(self, item: LogRecord, events: Sequence[Event]) -> None:
        """Keep an entry."""
        self.offered.append((item, events))

    def forwards_from(self, vendor: str) -> bool:
        """Return False."""
        return not vendor

    def own_secrets(self) -> list[str]:
        """Return nothing."""
        return []

    def wait_for_reply(self, request_id: str) -> "asyncio.Future[Response | None]":
        """Fail: no upstream reply is asked for."""
        raise AssertionError(request_id)

    def sends_now(self, user: str) -> bool:
        """Return False."""
        return not user


async def test_an_entry_without_events_is_parsed_once_for_all_destinations() -> None:
    """Without parsed events the stored request is parsed once; with them, not at all."""
    parsed: list[Entry] = []
    events = [Event(type="track", name="one"), Event(type="track", name="two")]

    def parse(entry: Entry) -> Sequence[Event]:
        parsed.append(entry)
        return events

    workers = {"crm": Queue(), "ads": Queue()}
    hand_over = HandOver(workers.get, parse, REPLIES)
    foreign, own = LogRecord(7, ENTRY), LogRecord(9, ENTRY)
    hand_over.offer(foreign, None)
    hand_over.offer(own, events)
    await asyncio.sleep(0)
    assert parsed == [ENTRY]
    for worker in workers.values():
        assert worker.offered == [(foreign, events), (own, events)]


async def test_an_entry_goes_to_the_worker_that_is_there_when_its_turn_comes() -> None:
    """A worker that was exchanged gets nothing more, and one that is gone is left out."""
    old, new = Queue(), Queue()
    workers = {"crm": old}
    hand_over = HandOver(workers.get, lambda _: (), REPLIES)
    hand_over.offer(LogRecord(1, ENTRY), ())
    workers["crm"] = new
    await asyncio.sleep(0)
    assert [len(one.offered) for one in (old, new)] == [0, 1]
