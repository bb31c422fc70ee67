"""What the sandbox was sent and what it answered, newest kept."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec
import orjson

from gateway.http import Request, Response
from gateway.json_text import loads

ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One request with its answer.

    ``arrival`` counts requests in the order in which they arrived, ``index`` in the order in
    which they were answered; the two differ only while delays are planned. ``response`` is
    None where the sender got no answer.
    """

    index: int
    arrival: int
    vendor: str
    request: Request
    response: Response | None
    reason: str | None

    @property
    def verdict(self) -> str:
        """Return ``accepted`` or ``refused``."""
        return ACCEPTED if self.reason is None else REFUSED

    def as_json(self) -> dict[str, Any]:
        """Return the entry as the journal's readers get it."""
        answer = self.response and {
            "status": self.response.status,
            "headers": dict(self.response.headers),
            "body": _readable(self.response.body),
        }
        return {
            "index": self.index,
            "arrival": self.arrival,
            "time": self.request.received_at.isoformat(timespec="milliseconds"),
            "vendor": self.vendor,
            "method": self.request.method,
            "path": self.request.path,
            "query": self.request.query,
            "headers": dict(self.request.headers),
            "body": _readable(self.request.body),
            "verdict": self.verdict,
            "reason": self.reason,
            "answer": answer,
        }


class Journal:
    """The newest entries, numbered without gaps, for one event loop.

    Readers that follow it keep a number of their own and ask for what came after it, so a slow
    reader costs no memory.
    """

    def __init__(self, size: int) -> None:
        self._entries: deque[JournalEntry] = deque(maxlen=size)
        self._waiting: set[asyncio.Future[None]] = set()
        self.last = 0
        """The number of the newest entry; never starts again, not even after ``clear``."""
        self.cleared = 0
        """How often the journal was cleared."""
        self.closed = False
        self.counts: Counter[tuple[str, str]] = Counter()
        """Entries since the last ``clear``, by vendor and verdict."""

    def add(
        self,
        arrival: int,
        vendor: str,
        request: Request,
        response: Response | None,
        reason: str | None,
    ) -> None:
        """Write one answered request down."""
        self.last += 1
        entry = JournalEntry(
            index=self.last,
            arrival=arrival,
            vendor=vendor,
            request=request,
            response=response,
            reason=reason,
        )
        self._entries.append(entry)
        self.counts[vendor, entry.verdict] += 1
        self._wake()

    def after(self, index: int, vendor: str | None = None) -> list[JournalEntry]:
        """Return the entries numbered above ``index`` by number, of one vendor if named."""
        wanted = min(self.last - index, len(self._entries))
        newest = list(islice(reversed(self._entries), max(wanted, 0)))
        return [entry for entry in reversed(newest) if vendor in (None, entry.vendor)]

    def newest(self, vendor: str | None = None) -> Iterator[JournalEntry]:
        """Yield entries from the newest to the oldest, of one vendor if named."""
        return (entry for entry in reversed(self._entries) if vendor in (None, entry.vendor))

    def clear(self) -> None:
        """Forget every entry and every count."""
        self._entries.clear()
        self.counts.clear()
        self.cleared += 1
        self._wake()

    def close(self) -> None:
        """Tell everyone who follows that nothing more will come."""
        self.closed = True
        self._wake()

    async def changed(self, limit: float) -> None:
        """Wait until something changes, at most ``limit`` seconds."""
        if self.closed:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await asyncio.wait([waiting], timeout=limit)
        finally:
            self._waiting.discard(waiting)

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


def _readable(body: bytes) -> Any:
    """Return JSON as JSON, byte for byte, and anything else as text."""
    try:
        loads(body, mend=False)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
    return orjson.Fragment(body)
