"""Add to each request what an output's `Authorization` makes for it, and keep its token."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog
from msgspec import Struct
from msgspec.structs import replace

from gateway.config import DestinationConfig
from gateway.delivery.connection import OnEnd
from gateway.delivery.file_transport import FileTransport
from gateway.delivery.transport import Transport, make_transport
from gateway.errors import TransportError
from gateway.http import NO_HEADERS, Request, Response, with_added_headers
from gateway.plugin.authorization import AccessToken, Authorization
from gateway.plugin.vendor import Output
from gateway.redact import HIDDEN

EARLY: Final = 0.1
"""Share of a token's lifetime before its end at which a new one is fetched."""
EARLIEST: Final = 60.0
"""Most seconds before its end at which that happens."""
PAUSE: Final = 5.0
"""Seconds after a failure in which no further token is asked for."""
UNAUTHORIZED: Final = 401

log = structlog.get_logger()


class _Waiting(Struct, frozen=True):
    """A request that waits for a token."""

    request: Request
    on_end: OnEnd
    whole: bool


class AuthorizingTransport:
    """Sends requests with the headers of an `Authorization`, over another transport.

    Only one token is asked for at a time; meanwhile requests wait. Where the vendor answers 401,
    the request is sent once more with a new token, since it was not accepted. A token is cut out
    of every response, so that nobody sees it.

    Args:
        authorization: of the output.
        transport: sends the requests.
        tokens: sends the requests for tokens, without the headers of the destination.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        authorization: Authorization,
        transport: Transport,
        tokens: Transport,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authorization = authorization
        self._transport = transport
        self._tokens = tokens
        self._clock = clock
        self._asks = authorization.token_request()
        self._token = ""
        self._fresh_until = 0.0
        self._valid_until = 0.0
        self._failure = TransportError("credential", "no access token yet")
        self._failed_until = 0.0
        self._asking = False
        self._waiting: list[_Waiting] = []

    def post(self, request: Request, on_end: OnEnd, *, whole: bool = False) -> None:
        """Send *request* as `Transport.post` does, with the headers of the authorization."""
        self._post(_Waiting(request, on_end, whole), again=True)

    def _post(self, sent: _Waiting, *, again: bool) -> None:
        """Send a request with a valid token, or when there is one."""
        if self._asks is None:
            self._send(sent, again=False)
            return
        now = self._clock()
        valid = now < self._valid_until
        if not valid:
            self._waiting.append(sent)
        if now >= self._fresh_until and not self._asking:
            if now < self._failed_until:
                self._release(self._failure)
            else:
                self._asking = True
                self._tokens.post(self._asks, partial(self._on_token, now), whole=True)
        if valid:
            self._send(sent, again=again)

    def _send(self, sent: _Waiting, *, again: bool) -> None:
        request = sent.request
        try:
            added = self._authorization.headers(request, datetime.now(UTC), self._token)
        except ValueError as error:
            failure = TransportError("protocol", f"the request cannot be signed: {error}")
            asyncio.get_running_loop().call_soon(sent.on_end, failure)
            return
        end = partial(self._on_end, sent, self._token, again)
        self._transport.post(with_added_headers(request, added), end, whole=sent.whole)

    def _on_end(
        self,
        sent: _Waiting,
        token: str,
        again: bool,  # noqa: FBT001 - called by partial
        end: Response | TransportError,
    ) -> None:
        if not isinstance(end, Response) or not token:
            sent.on_end(end)
        elif end.status == UNAUTHORIZED and again:
            if token == self._token:
                self._fresh_until = self._valid_until = 0.0
            self._post(sent, again=False)
        else:
            sent.on_end(_without(token, end))

    def _on_token(self, asked_at: float, end: Response | TransportError) -> None:
        self._asking = False
        try:
            token = self._read(end)
        except TransportError as error:
            now = self._clock()
            self._failure, self._failed_until = error, now + PAUSE
            log.warning("token_refused", error=str(error))
            if now >= self._valid_until:
                self._release(error)
            return
        self._token = token.value
        self._valid_until = asked_at + token.lifetime
        self._fresh_until = self._valid_until - min(EARLIEST, token.lifetime * EARLY)
        self._release(None)

    def _read(self, end: Response | TransportError) -> AccessToken:
        if isinstance(end, TransportError):
            raise TransportError(end.cause, f"no access token: {end}")
        try:
            return self._authorization.read_token(end)
        except ValueError as error:
            raise TransportError("credential", f"no access token: {error}") from error

    def _release(self, failure: TransportError | None) -> None:
        """Send what waits for a token, or end it with the *failure*."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if failure is None:
                self._send(one, again=False)
            else:
                asyncio.get_running_loop().call_soon(one.on_end, failure)

    async def close(self) -> None:
        """Close every connection."""
        await self._tokens.close()
        await self._transport.close()


def _without(token: str, response: Response) -> Response:
    """Return *response* without the token, which a server may repeat in its body or headers."""
    secret = token.encode()
    headers = {name: text.replace(token, HIDDEN) for name, text in response.headers.items()}
    body = response.body.replace(secret, HIDDEN.encode())
    return replace(response, headers=headers, body=body)


def make_authorized_transport(config: DestinationConfig, output: Output) -> Transport:
    """Return the transport of a configured destination, with its authorization if it has one."""
    if output.files is not None:
        return FileTransport(output.files, None if config.shadow is True else config)
    transport = make_transport(config)
    if output.authorization is None:
        return transport
    plain = config.model_copy(update={"headers": NO_HEADERS, "concurrency": 1})
    return AuthorizingTransport(output.authorization, transport, make_transport(plain))
