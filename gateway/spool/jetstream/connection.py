"""The connection to NATS: every call may be repeated, and every error is a `SpoolError`."""

import asyncio
import contextlib
import itertools
import json
import ssl
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import nats
import structlog
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import AuthorizationError, MaxPayloadError

from gateway.errors import SpoolError
from gateway.spool.values import SpoolFull

ATTEMPT = 1.0
"""Seconds after which a call without an answer is repeated."""
PATIENCE = 10.0
"""Seconds for which a call is repeated; a new leader is elected within 4 to 9 s."""
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.25
_REOPEN_WAIT = 0.5
_MAX_UNSENT = 64 * 1024 * 1024
"""Bytes that wait in memory while no server is connected."""
_RETRY_AFTER = 5.0
_PAGE, _PAGE_BYTES = 256, 4_000_000
_WRONG_LAST_SEQUENCE = 10071
"""The subject has another last message; 10164 with the same text means that it is being written."""
_FULL = frozenset({10023, 10047, 10077})
"""Insufficient resources, insufficient storage, the stream's own limit of bytes."""
_REFUSED = frozenset({10054, 10109})
"""Too large, sealed: a repeat changes nothing."""
_FINAL = frozenset({400, 403})
"""Kinds of errors of the API that a repeat does not change."""
_MESSAGE_ID = "Nats-Msg-Id"
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_DUPLICATE = 10201
"""A batch with the id of a message that is stored: an earlier attempt arrived."""
_STREAM_EXISTS = 10058
_NOT_FOUND = frozenset({10014, 10037, 10043, 10059})
"""No such consumer, no such message, none with that sequence, no such stream."""

log = structlog.get_logger()


T = TypeVar("T")


class Unanswered(SpoolError):
    """No server answered, or none can now: what was asked may have been done; repeat it."""


class WrongSequence(SpoolError):
    """The subject's last message is not the expected one."""


class AlreadyStored(SpoolError):
    """A message of a batch is stored already, as its id says."""


class TooLarge(SpoolError):
    """The message exceeds what the servers take (``max_payload``)."""


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


class StoredMessage(NamedTuple):
    """A message of a stream."""

    seq: int
    data: bytes
    at: float
    """Unix seconds at which a server stored it."""


class StreamMessage(NamedTuple):
    """A message to store as a part of a batch."""

    subject: str
    data: bytes
    expected: int | None = None
    """The sequence of the subject's last message."""
    headers: Mapping[str, str] = {}


def with_id(subject: str, data: bytes, message_id: str) -> StreamMessage:
    """Return a message that is the same one if it is stored again within two minutes."""
    return StreamMessage(subject, data, headers={_MESSAGE_ID: message_id})


Callback = Callable[[Msg], Awaitable[None]]


class NatsConnection:
    """One connection to a cluster, which is made again whatever ends it.

    All calls are idempotent, so they are repeated until they succeed or ``patience`` is over. The
    client sends what was unsent after it reconnects, old calls too: they must bear that.

    Args:
        urls: servers; user and password in them are used and not shown.
        access: overrides what the URLs say.
        name: shown by the servers.
        patience: seconds for which calls are repeated.
    """

    def __init__(
        self,
        urls: Sequence[str],
        access: NatsAccess | None = None,
        *,
        name: str = "gateway",
        patience: float = PATIENCE,
    ) -> None:
        split = [_split_access(url) for url in urls]
        self.urls = [url for url, _ in split]
        self.patience = patience
        self._access = access or next((found for _, found in split if found), NatsAccess())
        self._name = name
        self._client: Client | None = None
        self._closing = False
        self._reopening: asyncio.Task[None] | None = None
        self._error = ""

    async def open(self) -> None:
        """Connect; raises SpoolError if no server lets the gateway in within ``patience``."""
        self._closing = False
        self._client = await self._connect()

    async def _connect(self) -> Client:
        options = {"connect_timeout": 2, **self._access.options()}
        client = Client()
        try:
            async with asyncio.timeout(self.patience):
                await client.connect(
                    self.urls,
                    name=self._name,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.1,  # type: ignore[arg-type] # it only sleeps for it
                    ping_interval=1,
                    max_outstanding_pings=2,
                    pending_size=_MAX_UNSENT,
                    error_cb=self._note,
                    closed_cb=self._on_closed,
                    **options,
                )
        except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
            await _close(client)
            why = self._error or _describe(error)
            raise SpoolError(f"{', '.join(self.urls)}: cannot connect to NATS: {why}") from error
        return client

    async def close(self) -> None:
        """Disconnect; a second call does nothing."""
        self._closing = True
        if self._reopening:
            self._reopening.cancel()
            await asyncio.gather(self._reopening, return_exceptions=True)
        client, self._client = self._client, None
        if client:
            await _close(client)

    def health(self) -> str | None:
        """Return why no server is connected; None if one is."""
        if self._client and self._client.is_connected:
            return None
        return f"{', '.join(self.urls)}: no connection to NATS{self._error and ': '}{self._error}"

    @property
    def max_payload(self) -> int:
        """Return the bytes of the largest message that the server takes."""
        return int(self._connected().max_payload)

    # ---- messages that are not stored ----------------------------------------------------

    async def send(self, subject: str, data: bytes = b"", reply: str = "") -> None:
        """Publish a message that nobody acknowledges."""
        with _spool_errors(subject):
            await self._connected().publish(subject, data, reply)

    async def subscribe(self, subject: str, callback: Callback) -> Subscription:
        """Call *callback* with each message, until ``unsubscribe``; a new client forgets it."""
        with _spool_errors(subject):
            return await self._connected().subscribe(subject, cb=callback)

    def new_inbox(self) -> str:
        """Return a subject of this client's own."""
        return self._connected().new_inbox()

    # ---- JetStream -----------------------------------------------------------------------

    async def api(self, call: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to a call of the JetStream API; ``{}`` if what it names is not there.

        Raises SpoolError for other errors.
        """
        data = json.dumps(request).encode() if request is not None else b""

        async def once() -> dict[str, Any]:
            answer = _json(await self.request(f"$JS.API.{call}", data))
            error = answer.get("error")
            if not error:
                return answer
            if error.get("err_code") in _NOT_FOUND:
                return {}
            kind = SpoolError if error.get("code") in _FINAL else Unanswered
            raise kind(f"{call}: {error.get('description')} ({error.get('err_code')})")

        return await self._repeat(once)

    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        message_id: str = "",
        expected: int | None = None,
        patience: float | None = None,
    ) -> int:
        """Store a message; return its sequence once a quorum has it.

        With *message_id* a repeat within two minutes is the same message. With *expected* it is
        stored only after that last message of its subject; after a repeat, WrongSequence may mean
        that an earlier attempt arrived. Raises SpoolFull at the stream's limit, and Unanswered
        when patience is over; 0 is one attempt.
        """
        headers = {_MESSAGE_ID: message_id} if message_id else {}
        if expected is not None:
            headers[_EXPECTED] = str(expected)
        return await self._store(subject, data, headers, patience)

    async def store_for(self, seconds: float, subject: str, data: bytes, expected: int) -> int:
        """Store a message that the servers delete after some time; otherwise like `store`."""
        headers = {_EXPECTED: str(expected), "Nats-TTL": f"{ceil(seconds)}s"}
        return await self._store(subject, data, headers)

    async def _store(
        self, subject: str, data: bytes, headers: dict[str, str], patience: float | None = None
    ) -> int:
        async def once() -> int:
            return _stored(subject, await self.request(subject, data, headers))

        return await self._repeat(once, patience)

    async def store_batch(self, batch_id: str, messages: Sequence[StreamMessage]) -> int:
        """Store messages of one stream, all or none; return the sequence of the last one.

        It is one attempt. Raises WrongSequence if an expectation fails, AlreadyStored if one of
        the messages has the id of a stored one, and Unanswered if the batch may or may not be
        stored.
        """
        *first, last = messages
        for number, message in enumerate(first, 1):
            headers = _batch_headers(batch_id, number, message)
            with _spool_errors(message.subject):
                await self._connected().publish(message.subject, message.data, headers=headers)
        headers = _batch_headers(batch_id, len(messages), last) | {"Nats-Batch-Commit": "1"}
        return _stored(last.subject, await self.request(last.subject, last.data, headers))

    async def store_together(self, batch_id: str, messages: Sequence[StreamMessage]) -> None:
        """Store messages of one stream, all or none.

        Each has an id of its own, so that a repeat is the same messages. Raises as `store` does.
        """
        tries = itertools.count(1)

        async def once() -> None:
            with contextlib.suppress(AlreadyStored):
                await self.store_batch(f"{batch_id}.{next(tries)}", messages)

        await self._repeat(once)

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        """Return a subject's last message; asks the leader, whose answer is never behind."""
        return await self._from_leader(stream, {"last_by_subj": subject})

    async def message(self, stream: str, subject: str, seq: int) -> StoredMessage | None:
        """Return a subject's message by its sequence; asks the leader."""
        found = await self._from_leader(stream, {"seq": seq, "next_by_subj": subject})
        return found if found and found.seq == seq else None

    async def _from_leader(self, stream: str, which: dict[str, Any]) -> StoredMessage | None:
        found = (await self.api(f"STREAM.MSG.GET.{stream}", which)).get("message")
        if not found:
            return None
        return StoredMessage(
            found["seq"], b64decode(found.get("data", "")), _unix_seconds(found["time"])
        )

    async def read(self, stream: str, subject: str, start: int, limit: int) -> list[StoredMessage]:
        """Return messages of a subject from sequence *start* on, in order.

        Any replica answers. It may be behind, but has no holes: fewer messages than there are mean
        "read on", and none mean nothing.
        """
        request = json.dumps({
            "seq": max(1, start), "batch": limit, "next_by_subj": subject,
            "max_bytes": _PAGE_BYTES,
        }).encode()  # fmt: skip

        async def once() -> list[StoredMessage]:
            return await self.collect(f"$JS.API.DIRECT.GET.{stream}", request)

        return await self._repeat(once)

    async def read_all(
        self, stream: str, subject: str, start: int, end: int, *, may_vanish: bool = False
    ) -> AsyncIterator[StoredMessage]:
        """Yield a subject's messages from sequence *start* to *end*, which must exist.

        With *may_vanish* it may be deleted meanwhile. Raises Unanswered if no replica has it in
        time.
        """
        until = time.monotonic() + self.patience
        while start <= end:
            page = await self.read(stream, subject, start, _PAGE)
            for message in page:
                if message.seq <= end:
                    yield message
            if page:
                start = page[-1].seq + 1
                until = time.monotonic() + self.patience
            elif may_vanish and await self.message(stream, subject, end) is None:
                return
            elif time.monotonic() >= until:
                raise Unanswered(f"{subject}: no replica has message {end}")
            else:
                await asyncio.sleep(_LONGEST_WAIT)

    async def delete(self, stream: str, seq: int) -> None:
        """Delete one message; nothing if it is not there."""
        await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": True})

    async def create_stream(self, name: str, settings: Mapping[str, Any]) -> None:
        """Create a stream; one that exists is left as it is."""
        request = json.dumps({"name": name, **settings}).encode()

        async def once() -> None:
            answer = _json(await self.request(f"$JS.API.STREAM.CREATE.{name}", request))
            error = answer.get("error")
            if error and error.get("err_code") != _STREAM_EXISTS:
                kind = SpoolError if error.get("code") in _FINAL else Unanswered
                raise kind(f"{name}: {error.get('description')} ({error.get('err_code')})")

        await self._repeat(once)

    async def subjects(self, stream: str, pattern: str) -> list[str]:
        """Return the subjects that have messages in a stream."""
        found: list[str] = []
        while True:
            request = {"subjects_filter": pattern, "offset": len(found)}
            answer = await self.api(f"STREAM.INFO.{stream}", request)
            page = answer.get("state", {}).get("subjects") or {}
            found += page
            if not page or len(found) >= answer.get("total", 0):
                return found

    async def purge(self, stream: str, subject: str, before: int | None = None) -> None:
        """Delete a subject's messages, or only those before a sequence."""
        which = {"filter": subject} | ({} if before is None else {"seq": before})
        await self.api(f"STREAM.PURGE.{stream}", which)

    # ---- one try ---------------------------------------------------------------------------

    async def request(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """Return the answer to one request; raises Unanswered if none comes in time."""
        with _spool_errors(subject):
            return await self._connected().request(
                subject, data, timeout=ATTEMPT, headers=dict(headers) if headers else None
            )

    async def collect(self, subject: str, request: bytes) -> list[StoredMessage]:
        """Return the messages that answer one request; raises Unanswered if none could.

        If they stop coming, those that came are returned: they are in order.
        """
        queue: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self.new_inbox()

        async def take(message: Msg) -> None:
            queue.put_nowait(message)

        subscription = await self.subscribe(inbox, take)
        found: list[StoredMessage] = []
        try:
            await self.send(subject, request, inbox)
            while True:
                async with asyncio.timeout(ATTEMPT):
                    message = await queue.get()
                headers = message.headers or {}
                if "Nats-Sequence" in headers:
                    found.append(_stored_message(headers, message.data))
                elif headers.get("Status") == "503" and not found:
                    raise Unanswered(f"{subject}: no replica answers")
                else:
                    return found
        except TimeoutError:
            if found:
                return found
            raise Unanswered(f"{subject}: no answer in time") from None
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def _repeat(self, once: Callable[[], Awaitable[T]], patience: float | None = None) -> T:
        """Return what a call returns, repeated while it is unanswered and patience lasts."""
        end = time.monotonic() + (self.patience if patience is None else patience)
        wait = _FIRST_WAIT
        while True:
            try:
                return await once()
            except Unanswered:
                if time.monotonic() >= end:
                    raise
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_WAIT)

    def _connected(self) -> Client:
        if self._client is None:
            raise Unanswered(self.health() or "no connection to NATS")
        return self._client

    async def _note(self, error: Exception) -> None:
        """Keep the reason for `health`; the client goes on by itself."""
        self._error = _describe(error)

    async def _on_closed(self) -> None:
        """Connect anew: the client gives up for some errors that a server tells it."""
        if self._closing or self._client is None:
            return
        self._client = None
        self._reopening = asyncio.get_running_loop().create_task(self._reopen())

    async def _reopen(self) -> None:
        while not self._closing:
            try:
                self._client = await self._connect()
            except SpoolError as error:
                log.warning("nats_connection_failed", reason=str(error))
                await asyncio.sleep(_REOPEN_WAIT)
            else:
                return


async def _close(client: Client) -> None:
    with contextlib.suppress(nats.errors.Error, OSError):
        await client.close()


def _stored(subject: str, message: Msg) -> int:
    """Return the sequence of an acknowledgement; raise what it means otherwise."""
    answer = _json(message)
    error = answer.get("error")
    if not error:
        return int(answer["seq"])
    code, text = error.get("err_code"), f"{subject}: {error.get('description')}"
    if code == _WRONG_LAST_SEQUENCE:
        raise WrongSequence(text)
    if code == _DUPLICATE:
        raise AlreadyStored(text)
    if code in _FULL:
        raise SpoolFull(f"{text}; the stream takes nothing more", _RETRY_AFTER)
    if code in _REFUSED:
        raise TooLarge(text)
    raise Unanswered(f"{text} ({code})")


def _batch_headers(batch_id: str, number: int, message: StreamMessage) -> dict[str, str]:
    headers = {**message.headers, "Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
    if message.expected is not None:
        headers[_EXPECTED] = str(message.expected)
    return headers


def _json(message: Msg) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(message.data)
    except ValueError as error:
        raise Unanswered(f"{message.subject}: an answer that is no JSON") from error
    return answer


def _stored_message(headers: Mapping[str, str], data: bytes) -> StoredMessage:
    at = _unix_seconds(headers["Nats-Time-Stamp"])
    return StoredMessage(int(headers["Nats-Sequence"]), data, at)


@contextlib.contextmanager
def _spool_errors(what: str) -> Iterator[None]:
    """Turn the client's errors into `SpoolError`, the only one that readers of a spool expect."""
    try:
        yield
    except MaxPayloadError as error:
        raise TooLarge(f"{what}: larger than max_payload of the NATS servers") from error
    except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
        raise Unanswered(f"{what}: {_describe(error)}") from error


def _describe(error: BaseException) -> str:
    if isinstance(error, AuthorizationError) or "authorization" in str(error).lower():
        return "NATS refuses the credentials"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error).removeprefix("nats: ") or type(error).__name__


def _split_access(url: str) -> tuple[str, NatsAccess | None]:
    """Return the URL without user and password, and what they were."""
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if parts.username is None:
        return bare, None
    return bare, NatsAccess(unquote(parts.username), unquote(parts.password or ""))


def _unix_seconds(moment: str) -> float:
    """Return Unix seconds of RFC 3339 with nanoseconds."""
    return datetime.fromisoformat(moment).timestamp()
