"""The endpoint that takes over what another spool holds."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.admin.context import AdminContext, ApiProblem
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.spool import Entry
from gateway.spool.moved import MAX_BATCH_BYTES, MovedBatch
from gateway.spool.restore import InvalidBatch, UnknownDestinations, restore


class Restored(msgspec.Struct, frozen=True):
    """How many parts of a batch are in the spool now."""

    requests: int
    dead_letters: int
    message_ids: int
    consents: int


def _amounts(_: Mapping[str, Any], answer: Restored) -> str:
    return f"{answer.requests} requests, {answer.dead_letters} dead letters"


def largest_batch(context: AdminContext) -> int:
    """Return the bytes of the largest batch of stored requests, for a move or an import.

    Its last request may exceed the batch, and come with what a vendor was sent; Base64 adds a
    third.
    """
    return 2 * (MAX_BATCH_BYTES + 2 * context.gateway.config.server.max_body)


@endpoint(
    "POST",
    "/spool/move",
    refuses={409: "A destination does not exist; nothing of the batch is stored."},
    detail=_amounts,
    largest_body=largest_batch,
)
async def move_to_spool(context: AdminContext, body: MovedBatch) -> Restored:
    """Take over a part of another spool, as `gateway spool move` sends it.

    The answer comes once it is durable. The same part may be sent again: nothing of it is stored
    twice, within 15 minutes.
    """

    def user_keys(entry: Entry) -> list[str]:
        return [event.user_key for event in context.gateway.events_of(entry)]

    try:
        await restore(context.gateway.spool, body, user_keys)
    except InvalidBatch as error:
        raise ApiProblem(400, f"body: {error}") from None
    except UnknownDestinations as error:
        known = "run the command again: it leaves what this gateway does not have"
        raise ApiProblem(409, f"{error}; {known}") from None
    return Restored(
        len(body.entries), len(body.dead_letters), len(body.message_ids), len(body.consents)
    )


ENDPOINTS: tuple[Endpoint, ...] = (move_to_spool,)
