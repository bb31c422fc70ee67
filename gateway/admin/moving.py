"""The endpoint that takes over what another spool holds."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.admin.context import AdminContext
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.spool import Entry
from gateway.spool.transfer import MovedBatch, restore

LARGEST_BATCH = 64 * 1024 * 1024
"""Bytes of the largest batch; one request may have some MB."""


class Restored(msgspec.Struct, frozen=True):
    """How many parts of a batch are in the spool now."""

    requests: int
    dead_letters: int
    message_ids: int
    consents: int


def _amounts(_: Mapping[str, Any], answer: Restored) -> str:
    return f"{answer.requests} requests, {answer.dead_letters} dead letters"


@endpoint("POST", "/spool/move", detail=_amounts, largest_body=LARGEST_BATCH)
async def move_to_spool(context: AdminContext, body: MovedBatch) -> Restored:
    """Take over a part of another spool, as `gateway spool move` sends it.

    The answer comes once it is durable. The same part may be sent again: nothing of it is stored
    twice, within 15 minutes.
    """

    def user_keys(entry: Entry) -> list[str]:
        return [event.user_key for event in context.gateway.events_of(entry)]

    await restore(context.gateway.spool, body, user_keys)
    return Restored(
        len(body.entries), len(body.dead_letters), len(body.message_ids), len(body.consents)
    )


ENDPOINTS: tuple[Endpoint, ...] = (move_to_spool,)
