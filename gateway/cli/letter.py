"""One dead letter, told in lines; credentials are not among them."""

from collections.abc import Iterator
from datetime import UTC, datetime

from gateway import plugins
from gateway.shown import Shown, received, sent
from gateway.spool import Dead


def written(at: float) -> str:
    """Return Unix seconds as a person reads them, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def lines(letter: Dead) -> Iterator[str]:
    """Yield what there is to know of *letter*, in the order in which it happened."""
    entry = letter.entry
    yield f"dead letter {letter.id} of {letter.destination}"
    yield f"  event     {letter.event_name or '(no name)'}, number {letter.index} of {entry.id}"
    yield f"  user      {letter.user or '(none)'}"
    if route := entry.route(letter.destination, letter.mark.index):
        yield f"  route     {route}, after whose steps it is sent"
    yield f"  given up  {written(letter.at)} UTC, {letter.cause}: {letter.reason}"
    yield ""
    yield f"received at {written(entry.request.received_at.timestamp())} UTC by {entry.source}"
    yield from _told(received(entry.request, plugins.load().inputs.get(entry.vendor)))
    for number, attempt in enumerate(letter.attempts, start=1):
        answer = "no answer" if attempt.status is None else f"HTTP {attempt.status}"
        yield ""
        yield f"attempt {number} at {written(attempt.at)} UTC: {answer} in {attempt.latency:.3f} s"
        yield f"  {attempt.said}"
    if last := sent(letter.rendered):
        yield ""
        yield "sent last"
        yield from _told(last)


def _told(request: Shown) -> Iterator[str]:
    yield f"  {request.method} {request.url}"
    yield from (f"  {name}: {value}" for name, value in request.headers.items())
    if request.unread:
        yield f"  ({request.unread})"
    yield from (f"  {line}" for line in request.body.splitlines())
