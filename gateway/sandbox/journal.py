"""The journal of the sandbox: the newest requests with their responses."""

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
    """One request with its response.

    ``arrival`` numbers requests in the order of arrival, ``index`` in the order of the responses;
    they differ only if faults have delays. ``response`` is None if the connection was dropped.
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
        """Return the entry as the API returns it."""
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

    A reader that follows the journal keeps the number of its last entry and asks for newer ones, so
    a slow reader needs no memory here.
    """

    def __init__(self, size: int) -> None:
        self._entries: deque[JournalEntry] = deque(maxlen=size)
        self._waiting: set[asyncio.Future[None]] = set()
        self.last = 0
        """The number of the newest entry. ``clear`` does not reset it."""
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
        """Add a request with its response."""
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
        """Return the entries with numbers above ``index``, in order; of one vendor if given."""
        wanted = min(self.last - index, len(self._entries))
        newest = list(islice(reversed(self._entries), max(wanted, 0)))
        return [entry for entry in reversed(newest) if vendor in (None, entry.vendor)]

    def newest(self, vendor: str | None = None) -> Iterator[JournalEntry]:
        """Yield entries from the newest to the oldest, of one vendor if given."""
        return (entry for entry in reversed(self._entries) if vendor in (None, entry.vendor))

    def clear(self) -> None:
        """Delete all entries and counts."""
        self._entries.clear()
        self.counts.clear()
        self.cleared += 1
        self._wake()

    def close(self) -> None:
        """Tell all followers that no more entries will come."""
        self.closed = True
        self._wake()

    async def changed(self, limit: float) -> None:
        """Wait for a change, at most ``limit`` seconds."""
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
    """Return JSON unchanged as a JSON fragment, and anything else as text."""
    try:
        loads(body, mend=False)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
    return orjson.Fragment(body)
