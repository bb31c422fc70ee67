"""Traces, told in lines for a person; no credential is in them to begin with."""

from collections.abc import Callable, Iterator

from rich.text import Text

from gateway.cli.terminal import printable
from gateway.letter import Letter, written
from gateway.shown import indented
from gateway.trace.ends import ends
from gateway.trace.interface import Decided, Line, Message, Parsed, Received, Trace, Tried
from gateway.trace.sampling import chosen
from gateway.trace.standing import End, Held

Latest = Callable[[str], Line | None]
STYLES = {"delivered": "green", "accepted": "", "declined": "yellow", "repeated": "yellow"}


def told(
    trace: Trace,
    *,
    whole: bool,
    latest: Latest = lambda _: None,
    held: Held | None = None,
) -> Iterator[str]:
    """Yield what became of one request, in the order of its way.

    Args:
        trace: of the request.
        whole: with what was received and sent.
        latest: returns the newest line about a destination, if there is one.
        held: what the spool has of it; None where it could not be asked.
    """
    yield f"request {trace.request}"
    if trace.received is None:
        yield "  what was received was not traced, or is too old to be kept still"
    else:
        yield from _received(trace.received, whole=whole)
    known = {event.event for event in trace.events}
    for event in trace.events:
        yield ""
        yield from _event(event)
        for end in ends(trace, event, held):
            for tried in end.tries:
                yield from _tried(tried, whole=whole)
            yield from _stands(end, latest, trace.request, asked=held is not None)
    for tried in trace.tries:
        if tried.event not in known:
            yield ""
            yield f"event {tried.event}  {tried.name}"
            yield from _tried(tried, whole=whole)
    for letter in held.letters if held else ():
        if letter.event not in known:
            yield ""
            yield f"event {letter.event}  {letter.event_name}".rstrip()
            yield lettered(letter)


def _stands(end: End, latest: Latest, request: str, *, asked: bool) -> Iterator[str]:
    """Yield how a delivery stands, as far as its tries do not say it."""
    letter = end.letter
    if letter is not None:
        told = bool(end.tries) and end.tries[-1].reason == f"{letter.cause}: {letter.reason}"
        yield f"    it is dead letter {letter.id}" if told else lettered(letter)
        return
    traced = chosen(request)
    words = end.words(traced=traced, asked=asked)
    if end.tries and words:
        yield f"    {words}"
    elif end.owed or (traced and not asked):
        yield f"  {end.destination}: nothing yet; {_waiting(end, latest(end.destination), words)}"
    elif words:
        yield f"  {end.destination}: {words}"


def _waiting(end: End, latest: Line | None, words: str) -> str:
    """Return what an untried delivery waits for, by the *latest* line about its destination."""
    behind = end.standing is not None and end.standing.behind
    if latest is None or latest.outcome != "later" or behind:
        return words
    at = written(latest.at)
    return f"it waits for the destination, which is in trouble: {latest.reason} ({at} UTC)"


def lettered(letter: Letter) -> str:
    """Return what there is to say of a dead letter."""
    at, number = written(letter.at), letter.id
    why = f"{letter.cause}: {letter.reason}"
    return f"  {letter.destination}: given up {at} as dead letter {number}; {why}"


def _received(received: Received, *, whole: bool) -> Iterator[str]:
    message = received.message
    came = f"{message.method} {message.url}, {message.size} bytes, {_count(received.events)}"
    key = f", with {received.credential}" if received.credential not in {"", "any"} else ""
    yield f"  received  {written(received.at)} UTC by {received.source} ({received.vendor}){key}"
    yield f"            {came}"
    answer = "accepted" if received.status is None else f"HTTP {received.status}"
    seconds = "" if received.seconds is None else f" in {received.seconds:.3f} s"
    yield f"  answered  {answer}{seconds}"
    if received.fault:
        yield f"  refused   {received.fault}: {received.reason}"
    if whole:
        yield from _message(message, 4)


def _event(event: Parsed) -> Iterator[str]:
    name = event.name if event.name == event.type else f"{event.type} {event.name!r}"
    yield f"event {event.event}  {name}"
    ids = {"user": event.user_id, "anonymous": event.anonymous_id, "message": event.message_id}
    if any(ids.values()):
        yield "  " + ", ".join(f"{what} {one}" for what, one in ids.items() if one)
    if event.repeated:
        yield "  came before, and goes nowhere"
    for violation in event.planned:
        yield f"  not as planned: {violation}"
    for decision in event.decisions:
        yield from _decided(decision)


def _decided(decided: Decided) -> Iterator[str]:
    to = ", ".join(decided.gives) or "nowhere new"
    how = f"to {to}" if decided.taken and not decided.kept_back else "not taken"
    if decided.kept_back:
        how = "kept back"
    yield f"  {decided.route}: {how}; {decided.kept_back or decided.reason}"
    if decided.part and not decided.kept_back:
        yield f"    decided by: {decided.part}"


def _tried(tried: Tried, *, whole: bool) -> Iterator[str]:
    answer = "" if not tried.number else "no answer"
    if tried.status is not None:
        answer = f"HTTP {tried.status}"
    seconds = "" if tried.seconds is None else f" in {tried.seconds:.3f} s"
    figures = f", try {tried.number}: {answer}{seconds}" if tried.number else ""
    why = f": {tried.reason}" if tried.reason else ""
    outcome = {"later": "tried again later", "dead": "dead letter"}.get(
        tried.outcome, tried.outcome
    )
    yield f"  {written(tried.at)} {tried.destination}{figures}; {outcome}{why}"
    if tried.route:
        yield f"    after the steps of {tried.route}{_changes(tried)}"
    if tried.said and tried.said not in tried.reason:
        yield f"    it said: {tried.said}"
    for how in ("lost", "coerced"):
        paths = ", ".join(loss.path for loss in tried.losses if loss.how == how)
        if paths:
            yield f"    {how}: {paths}"
    if whole and tried.sent is not None:
        yield from _message(tried.sent, 4)


def _changes(tried: Tried) -> str:
    said = [f"{change.path} {change.how}" for change in tried.changes]
    if tried.more_changes:
        said.append(f"and {tried.more_changes} more")
    return f": {', '.join(said)}" if said else ""


def _message(message: Message, indent: int) -> Iterator[str]:
    space = " " * indent
    yield f"{space}{message.method} {message.url}"
    yield from (f"{space}{name}: {value}" for name, value in message.headers.items())
    yield from (f"{space}{line}" for line in indented(message.body).splitlines())
    if message.cut:
        yield f"{space}… ({message.size} bytes in all)"


def _count(events: int) -> str:
    return "1 event" if events == 1 else f"{events} events"


def short(line: Line) -> Text:
    """Return what ``gateway tail`` prints of *line*."""
    seconds = "" if line.seconds is None else f" {line.seconds * 1000:.0f} ms"
    status = "" if line.status is None else f" {line.status}"
    user = line.user_id or line.anonymous_id
    text = Text(f"{written(line.at)[11:]} ", style="dim")
    style = "red" if line.failed else STYLES.get(line.outcome, "")
    way = f"{line.source} > {line.destination}" if line.destination else line.source
    text.append(f"{line.outcome:<9} ", style=style or "none")
    text.append(printable(f"{way}  {line.name}{f'  {user}' if user else ''}"), style="none")
    text.append(f"{status}{seconds}  {line.event or line.request}", style="dim")
    if line.reason:
        text.append(f"  {printable(line.reason)}", style=style or "none")
    return text
