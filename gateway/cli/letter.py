"""One dead letter, told in lines; credentials are not among them."""

from collections.abc import Iterator

from gateway import plugins
from gateway.letter import Hide, letter_of, written
from gateway.shown import Shown, received, sent, without
from gateway.spool import Dead


def lines(dead: Dead, hide: Hide) -> Iterator[str]:
    """Yield what there is to know of a dead letter, in the order in which it happened.

    Args:
        dead: the letter.
        hide: takes credentials out of a text.
    """
    entry, letter = dead.entry, letter_of(dead, hide)
    yield f"dead letter {letter.id} of {letter.destination}"
    yield f"  event     {letter.event_name or '(no name)'}, number {dead.index} of {entry.id}"
    yield f"  user      {letter.user or '(none)'}"
    if letter.route:
        yield f"  route     {letter.route}, after whose steps it is sent"
    yield f"  given up  {written(letter.at)} UTC, {letter.cause}: {letter.reason}"
    yield ""
    yield f"received at {written(entry.request.received_at.timestamp())} UTC by {entry.source}"
    came = received(entry.request, plugins.load().inputs.get(entry.vendor))
    yield from _told(without(came, hide))
    for number, attempt in enumerate(dead.attempts, start=1):
        answer = "no answer" if attempt.status is None else f"HTTP {attempt.status}"
        yield ""
        yield f"attempt {number} at {written(attempt.at)} UTC: {answer} in {attempt.latency:.3f} s"
        yield f"  {hide(attempt.said)}"
    if last := sent(dead.rendered):
        yield ""
        yield "sent last"
        yield from _told(without(last, hide))


def _told(request: Shown) -> Iterator[str]:
    yield f"  {request.method} {request.url}"
    yield from (f"  {name}: {value}" for name, value in request.headers.items())
    if request.unread:
        yield f"  ({request.unread})"
    yield from (f"  {line}" for line in request.body.splitlines())
