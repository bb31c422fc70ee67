"""Calls that are no events: reads, and whatever else the gateway does not translate.

With an upstream they go there. Without one a few reads have an answer of the gateway's own, and
all else is refused as the vendor would refuse it.
"""

import secrets

import structlog
from aiohttp import web

from gateway import body
from gateway.apart import Apart
from gateway.credentials import named_in
from gateway.doors import Found
from gateway.errors import Fault, Rejected
from gateway.exchange import Request, Response

log = structlog.get_logger()


async def answer(
    http: web.Request, found: Found, request: Request, apart: Apart
) -> web.StreamResponse | Response:
    """Return what the sender of *request*, for the source that was *found*, is told.

    A large one is read *apart* from the loop.

    Raises:
        Rejected: there is no answer, or the credential is not accepted.
    """
    reads, key = found.source.reads, found.source.reads.relayed_credential(request)
    if key is None and found.lends:
        said = await body.whole(http)
        key = await apart(len(said), named_in, said, reads)
    if found.relays or f"{request.method} {found.path}" in reads.unsupported:
        source = found.source if key is None else found.keyed(key)
        if source.relay is not None:
            if source.relay.lends and key is None:
                raise Rejected("$", "no credential came along", Fault.UNAUTHENTICATED)
            if not source.relay.serves(request):
                log.info("relay_not_served", source=source.name, request=request.id)
                raise source.refusal(request.method, found.path)
            client = source.clients.address(http)
            return await source.relay.pass_on(http, request, source.cors, apart, client)
        told = reads.answer(request, secrets.token_hex(16))
        if told is not None:
            return told
    raise found.source.refusal(request.method, found.path)
