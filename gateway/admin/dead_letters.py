"""Endpoints for dead letters: list, group, show, replay and delete them."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from gateway.admin.context import AdminContext, ApiProblem
from gateway.admin.endpoint import Endpoint, Limit, Number, Offset, Seconds, Text, endpoint
from gateway.errors import Rejected
from gateway.observability.redacted_request import (
    RedactedRequest,
    redact_received,
    redact_sent,
    redact_texts,
)
from gateway.observability.replays import ReplayedDelivery
from gateway.spool import Attempt, Cause, DeadLetterFilter, DeadLetterGroup
from gateway.spool.dead_letters import DeadLetter, DeadLetterSummary, summarize
from gateway.trace.delivery_status import MOST as MOST_TOLD
from gateway.trace.delivery_status import SpoolRecords, asks, delivery_states
from gateway.trace.records import EventRecord, Trace

MOST = 200
"""Dead letters that one call replays or deletes."""

log = structlog.get_logger()


class DeadLetterQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A filter for dead letters; all given fields must match."""

    destination: Text | UnsetType = UNSET
    reason: Text | UnsetType = UNSET
    """Part of the reason, in any case."""
    reason_pattern: Text | UnsetType = UNSET
    """The ``reason_pattern`` of a group."""
    cause: Cause | UnsetType = UNSET
    since: Seconds | UnsetType = UNSET
    until: Seconds | UnsetType = UNSET
    """Exclusive."""
    event_name: Text | UnsetType = UNSET
    user: Text | UnsetType = UNSET
    request: Text | UnsetType = UNSET
    """The id of their request."""

    def letters(self) -> DeadLetterFilter:
        """Return the filter for the spool."""
        said = {name: getattr(self, name) for name in DeadLetterQuery.__struct_fields__}
        return DeadLetterFilter(
            **{name: value for name, value in said.items() if value is not UNSET}
        )


class Listing(DeadLetterQuery, frozen=True, forbid_unknown_fields=True):
    """A filter for dead letters, and a page."""

    after: Offset = 0
    """The last id of the previous page."""
    limit: Limit = 50


class DeadLetterPage(msgspec.Struct, frozen=True):
    """A page of dead letters, ordered by id."""

    dead_letters: list[DeadLetterSummary]
    next: int | None
    """``after`` of the next page; null on the last page."""


class Groups(msgspec.Struct, frozen=True):
    """The largest groups of dead letters with the same reason."""

    groups: list[DeadLetterGroup]


class DeadLetterDetail(msgspec.Struct, frozen=True):
    """A dead letter with all details, without credentials."""

    dead_letter: DeadLetterSummary
    received: RedactedRequest
    """The request as received."""
    sent: RedactedRequest | None
    """The last outgoing request; null if nothing was sent."""
    attempts: tuple[Attempt, ...]
    """All attempts, the newest last."""


Ids = Annotated[list[Number], Meta(min_length=1, max_length=MOST, description="Ids.")]


class DeadLetterSelection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The dead letters to replay or delete: by ids, or the next ones that match a filter.

    Give one of the two. With a filter, one call handles up to 200: repeat it with ``after`` set to
    ``next`` until that is null. Only dead letters from before ``filter.until``, or before the call,
    are selected, so that one that fails again is not selected twice.
    """

    ids: Ids | UnsetType = UNSET
    filter: DeadLetterQuery | UnsetType = UNSET
    after: Offset = 0
    limit: Annotated[int, Meta(ge=1, le=MOST)] = MOST
    """How many a call with a filter handles at most; fewer make a slower replay."""
    replay: Number | UnsetType = UNSET
    """The replay that this call goes on with, as the call before returned it."""


EITHER = Meta(extra_json_schema={"oneOf": [{"required": ["ids"]}, {"required": ["filter"]}]})


class DeadLettersMoved(msgspec.Struct, frozen=True):
    """How many dead letters were replayed or deleted."""

    moved: int
    next: int | None
    """``after`` of the next call; null if none is left."""
    replay: int | None
    """The number under which the outcomes are counted; null for a deletion."""


class ReplayProgress(msgspec.Struct, frozen=True):
    """What has become of replayed dead letters so far; the rest waits."""

    delivered: int
    declined: int
    dead: int
    """Those that are dead letters again."""


@endpoint("GET", "/dead-letters")
async def list_dead_letters(context: AdminContext, query: Listing) -> DeadLetterPage:
    """List dead letters, the oldest first."""
    which = await _checked(context, query)
    found = await context.gateway.spool.dead_letters(which, query.after, query.limit)
    following = found[-1].id if len(found) == query.limit else None
    return DeadLetterPage([_summary(context, dead) for dead in found], following)


@endpoint("GET", "/dead-letter-groups")
async def list_dead_letter_groups(context: AdminContext, query: DeadLetterQuery) -> Groups:
    """Group dead letters by destination and reason, the largest groups first."""
    found = await context.gateway.spool.letter_groups(await _checked(context, query), limit=100)
    return Groups([replace(one, reason=context.hide(one.reason)) for one in found])


@endpoint("GET", "/dead-letters/{number}", refuses={404: "There is no such dead letter."})
async def show_dead_letter(context: AdminContext, number: Number) -> DeadLetterDetail:
    """Show one dead letter with all details."""
    dead = await context.gateway.spool.dead_letter(number)
    if dead is None:
        raise ApiProblem(404, f"there is no dead letter {number}; it was replayed or deleted")
    reads = context.gateway.registry.inputs.get(dead.entry.vendor)
    came, went = redact_received(dead.entry.request, reads), redact_sent(dead.rendered)
    return DeadLetterDetail(
        _summary(context, dead),
        redact_texts(came, context.hide),
        None if went is None else redact_texts(went, context.hide),
        tuple(
            replace(one, response_excerpt=context.hide(one.response_excerpt))
            for one in dead.attempts
        ),
    )


def _count(given: Mapping[str, Any], answer: DeadLettersMoved) -> str:
    which = given["body"].filter
    of = f" of {which.destination}" if which and which.destination else ""
    return f"{answer.moved} dead letter{'' if answer.moved == 1 else 's'}{of}"


@endpoint("POST", "/dead-letters/replay", refuses={409: "The replay is not known."}, detail=_count)
async def replay_dead_letters(
    context: AdminContext, body: Annotated[DeadLetterSelection, EITHER]
) -> DeadLettersMoved:
    """Deliver dead letters again.

    Their requests are parsed again, so changes of plugins and keys take effect.
    """
    replays, spool = context.gateway.observer.replays, context.gateway.spool
    replay = replays.begin() if isinstance(body.replay, UnsetType) else body.replay
    if replays.outcomes(replay) is None:
        raise ApiProblem(409, f"there is no replay {replay}; leave it out to begin one")

    async def move(ids: list[int]) -> int:
        letters = [await spool.dead_letter(number) for number in ids]
        replays.follow(replay, [_followed(one) for one in letters if one is not None])
        return await spool.replay_dead_letters(ids)

    return await _move(context, body, move, "dead_letters_replayed", replay)


def _followed(dead: DeadLetter) -> ReplayedDelivery:
    """Return the delivery that a replay makes of a dead letter."""
    copy = f"-{dead.mark.copy}" if dead.mark.copy else ""
    return ReplayedDelivery(dead.destination, f"{dead.entry.id}-{dead.index}{copy}")


@endpoint("GET", "/dead-letters/replays/{number}", refuses={404: "There is no such replay."})
async def show_replay(context: AdminContext, number: Number) -> ReplayProgress:
    """Show what has become of replayed dead letters.

    The last 100 replays since the start are known.
    """
    ends = context.gateway.observer.replays.outcomes(number)
    if ends is None:
        raise ApiProblem(404, f"there is no replay {number}, or it is no longer known")
    return ReplayProgress(ends["delivered"], ends["declined"], ends["dead_letter"])


@endpoint("POST", "/dead-letters/delete", detail=_count)
async def delete_dead_letters(
    context: AdminContext, body: Annotated[DeadLetterSelection, EITHER]
) -> DeadLettersMoved:
    """Delete dead letters."""
    return await _move(
        context, body, context.gateway.spool.delete_dead_letters, "dead_letters_deleted", None
    )


async def _move(
    context: AdminContext,
    which: DeadLetterSelection,
    act: Callable[[list[int]], Awaitable[int]],
    event: str,
    replay: int | None,
) -> DeadLettersMoved:
    if (which.ids is UNSET) == (which.filter is UNSET):
        raise ApiProblem(400, "body: give either ids or filter")
    following: int | None = None
    if isinstance(which.ids, list):
        ids = which.ids
    else:
        assert isinstance(which.filter, DeadLetterQuery)  # noqa: S101 - one of the two is given
        query = await _checked(context, which.filter)
        ids = await _page(context, query, which.after, which.limit)
        following = ids[-1] if len(ids) == which.limit else None
    moved = await act(ids) if ids else 0
    if moved:
        log.info(event, dead_letters=moved)
    return DeadLettersMoved(moved, following, replay)


async def _checked(context: AdminContext, query: DeadLetterQuery) -> DeadLetterFilter:
    """Return the filter of a query.

    Raises:
        UnknownName: there is no such destination.
    """
    which = query.letters()
    await context.check_names(None, which.destination)
    return which


def _summary(context: AdminContext, dead: DeadLetter) -> DeadLetterSummary:
    """Return the summary; an event that was evicted unread is parsed for its name and user."""
    if not dead.event_name:
        with suppress(Rejected):
            events = context.gateway.parse(dead.entry)
            if dead.index < len(events):
                event = events[dead.index]
                dead = replace(dead, event_name=event.name or event.type, user=event.user_key)
    return summarize(dead, context.hide)


async def _page(
    context: AdminContext, which: DeadLetterFilter, after: int, limit: int
) -> list[int]:
    now = time.time()
    until = now if which.until is None else min(now, which.until)
    which = replace(which, until=until)
    return [dead.id for dead in await context.gateway.spool.dead_letters(which, after, limit)]


async def spool_records(
    context: AdminContext, trace: Trace, events: Iterable[EventRecord]
) -> SpoolRecords:
    """Return the spool's records of a request, with the dead letters of *events*."""
    spool = context.gateway.spool
    stands = tuple(delivery_states(await spool.pending(trace.request)))
    if not await spool.dead_letters(DeadLetterFilter(request=trace.request), limit=1):
        return SpoolRecords((), stands)
    letters = [
        _summary(context, dead)
        for which in asks(trace, events)
        for dead in await spool.dead_letters(which, limit=MOST_TOLD)
    ]
    return SpoolRecords(letters, stands)


ENDPOINTS: tuple[Endpoint, ...] = (
    list_dead_letters,
    list_dead_letter_groups,
    show_dead_letter,
    replay_dead_letters,
    show_replay,
    delete_dead_letters,
)
