"""Dead letters: finding them, looking at them, replaying and deleting them."""

import time
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from gateway.admin.context import AdminContext, ApiProblem
from gateway.admin.endpoint import Endpoint, Limit, Number, Offset, Seconds, Text, endpoint
from gateway.observability.redacted_request import (
    RedactedRequest,
    redact_received,
    redact_sent,
    redact_texts,
)
from gateway.spool import Attempt, Cause, DeadLetterFilter, DeadLetterGroup
from gateway.spool.dead_letters import DeadLetterSummary, summarize
from gateway.trace.delivery_status import MOST as MOST_TOLD
from gateway.trace.delivery_status import SpoolRecords, asks, delivery_states
from gateway.trace.records import EventRecord, Trace

MOST = 200
"""Dead letters that one call moves."""

log = structlog.get_logger()


class DeadLetterQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters; every field that is given must hold."""

    destination: Text | UnsetType = UNSET
    reason: Text | UnsetType = UNSET
    """A part of the reason, in any case."""
    reason_pattern: Text | UnsetType = UNSET
    """The ``reason_pattern`` of a group."""
    cause: Cause | UnsetType = UNSET
    since: Seconds | UnsetType = UNSET
    until: Seconds | UnsetType = UNSET
    """Before then."""
    event_name: Text | UnsetType = UNSET
    user: Text | UnsetType = UNSET
    request: Text | UnsetType = UNSET
    """The id of the request that they came in."""

    def letters(self) -> DeadLetterFilter:
        """Return the filter as the spool takes it."""
        said = {name: getattr(self, name) for name in DeadLetterQuery.__struct_fields__}
        return DeadLetterFilter(
            **{name: value for name, value in said.items() if value is not UNSET}
        )


class Listing(DeadLetterQuery, frozen=True, forbid_unknown_fields=True):
    """Which dead letters, and which page of them."""

    after: Offset = 0
    """The last id of the page before."""
    limit: Limit = 50


class DeadLetterPage(msgspec.Struct, frozen=True):
    """Dead letters by id."""

    dead_letters: list[DeadLetterSummary]
    next: int | None
    """``after`` of the next page; null where there is none."""


class Groups(msgspec.Struct, frozen=True):
    """The largest groups of dead letters that were given up for the same reason."""

    groups: list[DeadLetterGroup]


class DeadLetterDetail(msgspec.Struct, frozen=True):
    """A dead letter with all that is known of it, without credentials."""

    dead_letter: DeadLetterSummary
    received: RedactedRequest
    """The request as it came."""
    sent: RedactedRequest | None
    """What was sent last; null where nothing was."""
    attempts: tuple[Attempt, ...]
    """Each try, the newest last."""


Ids = Annotated[list[Number], Meta(min_length=1, max_length=MOST, description="Ids.")]


class DeadLetterSelection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters to move: those with these ids, or the next of those that a filter names.

    Give one of the two. A filter moves up to 200 at a time: repeat the call with ``after`` set to
    ``next`` until that is null. Only what was given up before ``filter.until``, or before the
    call, is moved, so that one that dies again is not moved twice.
    """

    ids: Ids | UnsetType = UNSET
    filter: DeadLetterQuery | UnsetType = UNSET
    after: Offset = 0


EITHER = Meta(extra_json_schema={"oneOf": [{"required": ["ids"]}, {"required": ["filter"]}]})


class DeadLettersMoved(msgspec.Struct, frozen=True):
    """How many dead letters were moved."""

    moved: int
    next: int | None
    """Where the next call goes on; null where nothing is left."""


@endpoint("GET", "/dead-letters")
async def list_dead_letters(desk: AdminContext, query: Listing) -> DeadLetterPage:
    """List dead letters, the oldest first."""
    which = await _checked(desk, query)
    found = await desk.gateway.spool.dead_letters(which, query.after, query.limit)
    following = found[-1].id if len(found) == query.limit else None
    return DeadLetterPage([summarize(dead, desk.hide) for dead in found], following)


@endpoint("GET", "/dead-letter-groups")
async def list_dead_letter_groups(desk: AdminContext, query: DeadLetterQuery) -> Groups:
    """Group dead letters by destination and reason, the largest groups first."""
    found = await desk.gateway.spool.letter_groups(await _checked(desk, query), limit=100)
    return Groups([replace(one, reason=desk.hide(one.reason)) for one in found])


@endpoint("GET", "/dead-letters/{number}", refuses={404: "There is no such dead letter."})
async def show_dead_letter(desk: AdminContext, number: Number) -> DeadLetterDetail:
    """Show one dead letter whole."""
    dead = await desk.gateway.spool.dead_letter(number)
    if dead is None:
        raise ApiProblem(404, f"there is no dead letter {number}; it may have been moved meanwhile")
    reads = desk.gateway.registry.inputs.get(dead.entry.vendor)
    came, went = redact_received(dead.entry.request, reads), redact_sent(dead.rendered)
    return DeadLetterDetail(
        summarize(dead, desk.hide),
        redact_texts(came, desk.hide),
        None if went is None else redact_texts(went, desk.hide),
        tuple(
            replace(one, response_excerpt=desk.hide(one.response_excerpt)) for one in dead.attempts
        ),
    )


@endpoint("POST", "/dead-letters/replay")
async def replay_dead_letters(
    desk: AdminContext, body: Annotated[DeadLetterSelection, EITHER]
) -> DeadLettersMoved:
    """Deliver dead letters again.

    Their requests are read anew, so that a mended mapping or key takes effect.
    """
    return await _move(desk, body, desk.gateway.spool.replay_dead_letters, "dead_letters_replayed")


@endpoint("POST", "/dead-letters/delete")
async def delete_dead_letters(
    desk: AdminContext, body: Annotated[DeadLetterSelection, EITHER]
) -> DeadLettersMoved:
    """Delete dead letters."""
    return await _move(desk, body, desk.gateway.spool.delete_dead_letters, "dead_letters_deleted")


async def _move(
    desk: AdminContext, which: DeadLetterSelection, act: Any, event: str
) -> DeadLettersMoved:
    if (which.ids is UNSET) == (which.filter is UNSET):
        raise ApiProblem(400, "body: give ids, or a filter; one of the two")
    following: int | None = None
    if isinstance(which.ids, list):
        ids = which.ids
    else:
        assert isinstance(which.filter, DeadLetterQuery)  # noqa: S101 - one of the two is given
        ids = await _page(desk, await _checked(desk, which.filter), which.after)
        following = ids[-1] if len(ids) == MOST else None
    moved = await act(ids) if ids else 0
    if moved:
        log.info(event, dead_letters=moved)
    return DeadLettersMoved(moved, following)


async def _checked(desk: AdminContext, query: DeadLetterQuery) -> DeadLetterFilter:
    """Return the filter of a query.

    Raises:
        UnknownName: there is no such destination.
    """
    which = query.letters()
    await desk.check_names(None, which.destination)
    return which


async def _page(desk: AdminContext, which: DeadLetterFilter, after: int) -> list[int]:
    now = time.time()
    until = now if which.until is None else min(now, which.until)
    which = replace(which, until=until)
    return [dead.id for dead in await desk.gateway.spool.dead_letters(which, after, MOST)]


async def held_of(desk: AdminContext, trace: Trace, events: Iterable[EventRecord]) -> SpoolRecords:
    """Return what the spool has of a request, and of *events* of it the dead letters."""
    spool = desk.gateway.spool
    stands = tuple(delivery_states(await spool.pending(trace.request)))
    if not await spool.dead_letters(DeadLetterFilter(request=trace.request), limit=1):
        return SpoolRecords((), stands)
    letters = [
        summarize(dead, desk.hide)
        for which in asks(trace, events)
        for dead in await spool.dead_letters(which, limit=MOST_TOLD)
    ]
    return SpoolRecords(letters, stands)


ENDPOINTS: tuple[Endpoint, ...] = (
    list_dead_letters,
    list_dead_letter_groups,
    show_dead_letter,
    replay_dead_letters,
    delete_dead_letters,
)
