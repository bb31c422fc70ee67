"""Dead letters: finding them, looking at them, replaying and dropping them."""

import time
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from gateway.admin.desk import Desk
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.admin.problem import Problem
from gateway.admin.values import Limit, Number, Offset, Seconds, Text
from gateway.letter import Letter, letter_of
from gateway.shown import Shown, received, sent, without
from gateway.spool import Attempt, Cause, LetterGroup, Letters
from gateway.trace.ends import MOST as MOST_TOLD
from gateway.trace.ends import asks
from gateway.trace.interface import Parsed, Trace
from gateway.trace.standing import Held, standings

MOST = 200
"""Dead letters that one call moves."""

log = structlog.get_logger()


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters; every field that is given must hold."""

    destination: Text | UnsetType = UNSET
    reason: Text | UnsetType = UNSET
    """A part of the reason, in any case."""
    alike: Text | UnsetType = UNSET
    """What a group's ``alike`` says."""
    cause: Cause | UnsetType = UNSET
    since: Seconds | UnsetType = UNSET
    until: Seconds | UnsetType = UNSET
    """Before then."""
    event_name: Text | UnsetType = UNSET
    user: Text | UnsetType = UNSET
    request: Text | UnsetType = UNSET
    """The id of the request that they came in."""

    def letters(self) -> Letters:
        """Return the filter as the spool takes it."""
        said = {name: getattr(self, name) for name in Filter.__struct_fields__}
        return Letters(**{name: value for name, value in said.items() if value is not UNSET})


class Listing(Filter, frozen=True, forbid_unknown_fields=True):
    """Which dead letters, and which page of them."""

    after: Offset = 0
    """The last id of the page before."""
    limit: Limit = 50


class LetterPage(msgspec.Struct, frozen=True):
    """Dead letters by id."""

    letters: list[Letter]
    next: int | None
    """``after`` of the next page; null where there is none."""


class Groups(msgspec.Struct, frozen=True):
    """The largest groups of dead letters that were given up for the same reason."""

    groups: list[LetterGroup]


class WholeLetter(msgspec.Struct, frozen=True):
    """A dead letter with all that is known of it, without credentials."""

    letter: Letter
    received: Shown
    """The request as it came."""
    sent: Shown | None
    """What was sent last; null where nothing was."""
    attempts: tuple[Attempt, ...]
    """Each try, the newest last."""


Ids = Annotated[list[Number], Meta(min_length=1, max_length=MOST, description="Ids.")]


class Moving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters to move: those with these ids, or the next of those that a filter names.

    Give one of the two. A filter moves up to 200 at a time: repeat the call with ``after`` set to
    ``next`` until that is null. Only what was given up before ``filter.until``, or before the
    call, is moved, so that one that dies again is not moved twice.
    """

    ids: Ids | UnsetType = UNSET
    filter: Filter | UnsetType = UNSET
    after: Offset = 0


EITHER = Meta(extra_json_schema={"oneOf": [{"required": ["ids"]}, {"required": ["filter"]}]})


class Moved(msgspec.Struct, frozen=True):
    """How many dead letters were moved."""

    moved: int
    next: int | None
    """Where the next call goes on; null where nothing is left."""


@endpoint("GET", "/dead-letters")
async def list_dead_letters(desk: Desk, query: Listing) -> LetterPage:
    """List dead letters, the oldest first."""
    found = await desk.gateway.spool.dead_letters(query.letters(), query.after, query.limit)
    following = found[-1].id if len(found) == query.limit else None
    return LetterPage([letter_of(dead, desk.hide) for dead in found], following)


@endpoint("GET", "/dead-letter-groups")
async def list_dead_letter_groups(desk: Desk, query: Filter) -> Groups:
    """Group dead letters by destination and reason, the largest groups first."""
    found = await desk.gateway.spool.letter_groups(query.letters(), limit=100)
    return Groups([replace(one, reason=desk.hide(one.reason)) for one in found])


@endpoint("GET", "/dead-letters/{number}", refuses={404: "There is no such dead letter."})
async def show_dead_letter(desk: Desk, number: Number) -> WholeLetter:
    """Show one dead letter whole."""
    dead = await desk.gateway.spool.dead_letter(number)
    if dead is None:
        raise Problem(404, f"there is no dead letter {number}; it may have been moved meanwhile")
    reads = desk.gateway.registry.inputs.get(dead.entry.vendor)
    came, went = received(dead.entry.request, reads), sent(dead.rendered)
    return WholeLetter(
        letter_of(dead, desk.hide),
        without(came, desk.hide),
        None if went is None else without(went, desk.hide),
        tuple(replace(one, said=desk.hide(one.said)) for one in dead.attempts),
    )


@endpoint("POST", "/dead-letters/replay")
async def replay_dead_letters(desk: Desk, body: Annotated[Moving, EITHER]) -> Moved:
    """Deliver dead letters again.

    Their requests are read anew, so that a mended mapping or key takes effect.
    """
    return await _move(desk, body, desk.gateway.spool.replay, "dead_letters_replayed")


@endpoint("POST", "/dead-letters/drop")
async def drop_dead_letters(desk: Desk, body: Annotated[Moving, EITHER]) -> Moved:
    """Throw dead letters away."""
    return await _move(desk, body, desk.gateway.spool.drop, "dead_letters_dropped")


async def _move(desk: Desk, which: Moving, act: Any, event: str) -> Moved:
    if (which.ids is UNSET) == (which.filter is UNSET):
        raise Problem(400, "body: give ids, or a filter; one of the two")
    following: int | None = None
    if isinstance(which.ids, list):
        ids = which.ids
    else:
        assert isinstance(which.filter, Filter)  # noqa: S101 - one of the two is given
        ids = await _page(desk, which.filter.letters(), which.after)
        following = ids[-1] if len(ids) == MOST else None
    moved = await act(ids) if ids else 0
    if moved:
        log.info(event, letters=moved)
    return Moved(moved, following)


async def _page(desk: Desk, which: Letters, after: int) -> list[int]:
    now = time.time()
    until = now if which.until is None else min(now, which.until)
    which = replace(which, until=until)
    return [dead.id for dead in await desk.gateway.spool.dead_letters(which, after, MOST)]


async def held_of(desk: Desk, trace: Trace, events: Iterable[Parsed]) -> Held:
    """Return what the spool has of a request, and of *events* of it the dead letters."""
    spool = desk.gateway.spool
    stands = tuple(standings(await spool.owing(trace.request)))
    if not await spool.dead_letters(Letters(request=trace.request), limit=1):
        return Held((), stands)
    letters = [
        letter_of(dead, desk.hide)
        for which in asks(trace, events)
        for dead in await spool.dead_letters(which, limit=MOST_TOLD)
    ]
    return Held(letters, stands)


ENDPOINTS: tuple[Endpoint, ...] = (
    list_dead_letters,
    list_dead_letter_groups,
    show_dead_letter,
    replay_dead_letters,
    drop_dead_letters,
)
