"""Endpoints about access: who the caller is, and what operators did."""

import asyncio
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.admin.audit import AuditEntry
from gateway.admin.caller import Caller
from gateway.admin.context import AdminContext
from gateway.admin.endpoint import Endpoint, Limit, Number, endpoint
from gateway.config.operations import Role


class Me(msgspec.Struct, frozen=True):
    """Who calls."""

    name: str
    """The name of the token, or of the person as the proxy says it; empty if no token is
    required."""
    role: Role
    """A `viewer` reads; an `operator` also changes."""


class AuditQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which actions to list."""

    before: Annotated[Number | None, Meta(description="Only with a lower id.")] = None
    limit: Limit = 50


class AuditPage(msgspec.Struct, frozen=True):
    """What operators did, the newest first."""

    entries: list[AuditEntry]
    next: int | None
    """``before`` of the next page; null on the last one."""


@endpoint("GET", "/me")
async def show_me(context: AdminContext, caller: Caller) -> Me:
    """Show who the caller is, and what it may do."""
    del context
    return Me(caller.name, caller.role)


@endpoint("GET", "/audit")
async def list_actions(context: AdminContext, query: AuditQuery) -> AuditPage:
    """List what operators did, the newest first."""
    found = await asyncio.to_thread(context.audit.entries, query.before, query.limit)
    following = found[-1].id if len(found) == query.limit else None
    return AuditPage(found, following)


ENDPOINTS: tuple[Endpoint, ...] = (show_me, list_actions)
