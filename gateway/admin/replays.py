"""Endpoints for replays of retained events: begin, list, pause, resume and cancel them."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.admin.context import AdminContext, ApiProblem
from gateway.admin.endpoint import Endpoint, Name, Number, Seconds, Text, endpoint
from gateway.errors import UnknownName
from gateway.replay.refusals import ConsentNotAsked, find_refusal
from gateway.replay.runner import NOT_RETAINED
from gateway.spool.replays import (
    ReplayableStore,
    ReplayCounts,
    ReplayJob,
    ReplaySelection,
    ReplayState,
)

RETAINS_NOTHING = (
    "the spool retains nothing that is delivered; set retain in [spool], such as "
    '"72h", and restart the gateway'
)
UNKNOWN = {
    404: "There is no such replay.",
    409: "The replay is finished, or several gateways share the spool.",
}
NOT_RESUMED = {
    **UNKNOWN,
    409: "The replay is finished, its destination is no longer configured, routes to it ask for "
    "consent and ``through_routes`` is not set, or several gateways share the spool.",
}


class NewReplay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The retained events to deliver again; all given fields must match."""

    to: Name
    """The destination."""
    since: Seconds = 0.0
    """When the request arrived; by default everything that is retained."""
    until: Seconds | UnsetType = UNSET
    """Exclusive, and later than ``since``; by default now."""
    source: Text | UnsetType = UNSET
    name: Text | UnsetType = UNSET
    """The neutral name of the event."""
    when: Annotated[str, Meta(min_length=1, max_length=10_000)] | UnsetType = UNSET
    """A condition, as in a route."""
    through_routes: bool = False
    """Only events that a route leads to the destination now, with the steps of that route.
    Otherwise all that match, as they came."""
    again: bool = False
    """Also events that were routed to the destination when they arrived, or by an earlier
    replay."""
    rate: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    """Most events per second; the destination's own rate applies as well."""
    dry_run: bool = False
    """Count the events, and deliver nothing."""

    def selection(self) -> ReplaySelection:
        """Return it for the spool."""
        given = {name: getattr(self, name) for name in NewReplay.__struct_fields__}
        return ReplaySelection(
            **{name: value for name, value in given.items() if value is not UNSET}
        )


class Replay(msgspec.Struct, frozen=True):
    """A replay and how far it is."""

    id: int
    selection: ReplaySelection
    state: ReplayState
    began: float
    """Unix seconds."""
    progress: float
    """How much of the retained requests it has read, from 0 to 1."""
    counts: ReplayCounts
    reason: str
    """Why it is paused and cannot be resumed; empty if it can."""


class Replays(msgspec.Struct, frozen=True):
    """The last replays, the newest first."""

    replays: list[Replay]
    refused_reason: str
    """Why none can begin, and what to do; empty if the spool retains what is delivered."""


def _shown(context: AdminContext, job: ReplayJob) -> Replay:
    selection, reason = job.selection, ""
    if job.state == "paused" and (refusal := find_refusal(selection, context.gateway)):
        reason = str(refusal)
    return Replay(job.id, selection, job.state, job.began, job.progress, job.counts, reason)


def _what(_: Mapping[str, Any], answer: Replay) -> str:
    name = "dry run" if answer.selection.dry_run else "replay"
    return f"{name} {answer.id}"


def _to(given: Mapping[str, Any], answer: Replay | None) -> str:
    if answer is not None:
        return answer.selection.to
    return str(given["body"].to) if "body" in given else ""


def _refused_reason(context: AdminContext) -> str:
    if not isinstance(context.gateway.spool, ReplayableStore):
        return NOT_RETAINED
    return RETAINS_NOTHING if context.gateway.config.spool.retain is None else ""


@endpoint("GET", "/replays")
async def list_replays(context: AdminContext) -> Replays:
    """List the last replays of retained events, the newest first."""
    if not isinstance(context.gateway.spool, ReplayableStore):
        return Replays([], NOT_RETAINED)
    jobs = await context.gateway.replays.all()
    return Replays([_shown(context, job) for job in jobs], _refused_reason(context))


@endpoint(
    "POST",
    "/replays",
    refuses={
        409: "Nothing is retained, another replay to the destination is not finished, or its "
        "routes ask for consent and ``through_routes`` is not set."
    },
    detail=_what,
    target=_to,
)
async def begin_replay(context: AdminContext, body: NewReplay) -> Replay:
    """Deliver retained events again, to any destination.

    Their requests are parsed again, so changes of plugins and mappings take effect. Live events
    come first. Nothing is delivered twice unless ``again`` is set.
    """
    if reason := _refused_reason(context):
        raise ApiProblem(409, reason)
    context.team(body.to)
    if body.until is not UNSET and body.until <= body.since:
        raise ApiProblem(400, "until must be later than since", field="until")
    try:
        await context.check_names(None if body.source is UNSET else str(body.source), None)
        return _shown(context, await context.gateway.replays.begin(body.selection()))
    except UnknownName as error:
        raise ApiProblem(400, str(error), field="source") from error
    except ConsentNotAsked as error:
        raise ApiProblem(409, str(error), field="through_routes") from error
    except ValueError as error:
        raise ApiProblem(400, f"when: {error}", field="when") from error


@endpoint("POST", "/replays/{number}/pause", refuses=UNKNOWN, detail=_what, target=_to)
async def pause_replay(context: AdminContext, number: Number) -> Replay:
    """Pause a replay; what it gave to the destination is still delivered."""
    return await _set(context, number, "paused")


@endpoint("POST", "/replays/{number}/resume", refuses=NOT_RESUMED, detail=_what, target=_to)
async def resume_replay(context: AdminContext, number: Number) -> Replay:
    """Resume a replay where it stopped."""
    return await _set(context, number, "running")


@endpoint("POST", "/replays/{number}/cancel", refuses=UNKNOWN, detail=_what, target=_to)
async def cancel_replay(context: AdminContext, number: Number) -> Replay:
    """End a replay; what it gave to the destination is still delivered."""
    return await _set(context, number, "cancelled")


async def _set(context: AdminContext, number: int, state: ReplayState) -> Replay:
    job = await context.gateway.replays.set_state(number, state)
    if job is None:
        raise ApiProblem(
            404,
            f"there is no replay {number}; `gateway replays list` or GET /api/v1/replays "
            f"lists them",
        )
    return _shown(context, job)


ENDPOINTS: tuple[Endpoint, ...] = (
    list_replays,
    begin_replay,
    pause_replay,
    resume_replay,
    cancel_replay,
)
