"""The endpoint that erases a person."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.admin.context import AdminContext, ApiProblem
from gateway.admin.endpoint import Endpoint, Text, endpoint
from gateway.admin.erasure import Erasure, erase


class ErasureRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ids of one person; the gateway does not know which ids belong together."""

    ids: Annotated[list[Text], Meta(min_length=1, max_length=100)]
    """User ids, anonymous ids, device ids, session ids or e-mail addresses."""


def _amounts(_: Mapping[str, Any], answer: Erasure) -> str:
    deliveries, letters = sum(answer.deliveries.values()), sum(answer.dead_letters.values())
    return f"{deliveries} deliveries, {letters} dead letters, {answer.traces} traces"


@endpoint("POST", "/erase", refuses={409: "Several gateways share the spool."}, detail=_amounts)
async def erase_person(context: AdminContext, body: ErasureRequest) -> Erasure:
    """Erase a person from the spool, dead letters, traces, consent and deduplication.

    Deliveries under way end first. Events that arrive meanwhile may stay. What was erased is
    overwritten in the files.
    """
    if not all(one.strip() for one in body.ids):
        raise ApiProblem(400, "body: an id is blank; give the ids of the person")
    async with context.reloading.held():
        return await erase(context.gateway, body.ids)


ENDPOINTS: tuple[Endpoint, ...] = (erase_person,)
