"""How a gateway proves to the NATS servers who it is."""

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import ParseResult

import nats.errors
from nats.aio.client import DEFAULT_BUFFER_SIZE, Client, RawCredentials, Srv
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport
from nats.errors import Error

from gateway.config import SpoolConfig
from gateway.config.tls_files import TlsFileError, read_tls_files
from gateway.errors import SpoolError

CLOSING = 1.0
"""Seconds for which the end of a connection is waited for."""


TLS_MISSING = "the server does not ask for TLS"


class _TlsProtocol(asyncio.StreamReaderProtocol):
    """Lets TLS end when the server ends it; the library's own leaves a warning in the log."""

    def eof_received(self) -> bool:
        """Note the end, and let the connection close."""
        super().eof_received()
        return False


class _Transport(TcpTransport):
    """A connection that ends quietly, and whose end is not waited for without limit.

    The library waits for the connection under a failed handshake of TLS, which nobody ends.
    """

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        """Go on through TLS with the server's name in *uri*."""
        bare = self._bare_io_writer
        if bare is None:
            raise ConnectionError("not connected")
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(buffer_size)
        protocol = _TlsProtocol(reader)
        name = uri if isinstance(uri, str) else uri.hostname
        async with asyncio.timeout(connect_timeout):
            transport = await loop.start_tls(
                bare.transport, protocol, ssl_context, server_hostname=name
            )
        if transport is None:
            raise ConnectionError("closed within the handshake of TLS")
        self._io_reader = reader
        self._io_writer = asyncio.StreamWriter(transport, protocol, reader, loop)

    async def wait_closed(self) -> None:
        """Wait for the end of the connection."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await super().wait_closed()  # type: ignore[no-untyped-call] # of the library


class NatsClient(Client):
    """A client that talks to a ``tls://`` address through TLS only.

    The library goes on without it if the server, or somebody in between, does not ask for it.
    """

    _requests = 0

    async def _request_new_style(
        self,
        subject: str,
        payload: bytes,
        timeout: float = 1,  # noqa: ASYNC109 - of the library
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        """Return the answer to a request.

        Requests are numbered; the library reads random bytes from the system for each of them.
        """
        if not self._resp_sub_prefix:
            await self._init_request_sub()
        self._requests += 1
        token, loop = str(self._requests), asyncio.get_running_loop()
        answer: asyncio.Future[Msg] = loop.create_future()
        self._resp_map[token] = answer
        timer = loop.call_later(timeout, _give_up, answer)
        try:
            reply = bytes(self._resp_sub_prefix or b"").decode() + token
            await self.publish(subject, payload, reply=reply, headers=headers)
            return await answer
        finally:
            timer.cancel()
            self._resp_map.pop(token, None)

    async def _connect_to_server(self, s: Srv) -> None:
        """Connect to *s*; the library would make a transport of its own if there is none."""
        s.last_attempt = time.monotonic()
        self._transport = transport = _Transport()  # type: ignore[no-untyped-call] # as above
        timeout = self.options["connect_timeout"]
        await transport.connect(s.uri, buffer_size=DEFAULT_BUFFER_SIZE, connect_timeout=timeout)

    def _connect_command(self) -> bytes:
        """Return the first command, which has the credentials."""
        server = self._current_server
        if server and server.uri.scheme == "tls" and not self._server_info.get("tls_required"):
            raise Error(f"{TLS_MISSING}; configure tls there, or write nats://")
        return super()._connect_command()


def _give_up(answer: asyncio.Future[Msg]) -> None:
    if not answer.done():
        answer.set_exception(nats.errors.TimeoutError())


@dataclass(frozen=True)
class NatsAccess:
    """How the gateway proves who it is; nothing of it is printed.

    ``creds`` is the text of a credentials file.
    """

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    nkey_seed: str = field(default="", repr=False)
    creds: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None

    def options(self) -> dict[str, Any]:
        """Return the client's options."""
        options: dict[str, Any] = {}
        if self.user:
            options |= {"user": self.user, "password": self.password}
        if self.nkey_seed:
            options["nkeys_seed_str"] = self.nkey_seed
        if self.creds:
            options["user_credentials"] = RawCredentials(self.creds)
        if self.tls:
            options["tls"] = self.tls
        return options


def access_of(spool: SpoolConfig) -> NatsAccess:
    """Return what a configuration says of the gateway's access.

    Raises:
        SpoolError: one of the files that it names cannot be used any more.
    """
    try:
        tls = None
        if spool.url.startswith("tls:"):
            tls = read_tls_files(spool.ca, spool.cert, spool.key, alpn=()).context
        creds = spool.creds.read_text("utf-8") if spool.creds else ""
    except TlsFileError as error:
        raise SpoolError(f"[spool] {error.key}: {error}") from error
    except OSError as error:
        raise SpoolError(f"[spool] creds: cannot read {spool.creds}: {error.strerror}") from error
    secrets = (spool.password, spool.nkey_seed)
    password, seed = (one.get_secret_value() if one else "" for one in secrets)
    return NatsAccess(spool.user, password, seed, creds, tls)
