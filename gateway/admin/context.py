"""Shared by all endpoints: the gateway, problem responses (RFC 9457), and event streams."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from typing import TypeVar

import msgspec
import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.admin.activity import ActivityFile, ActivityLog
from gateway.admin.audit import AuditEntry, AuditLog
from gateway.admin.sampler import ActivitySampler
from gateway.app import Gateway
from gateway.config.operations import AdminConfig
from gateway.delivery import Team
from gateway.errors import ConfigError, GatewayError, SpoolError, TraceError, UnknownName
from gateway.reload import Reloader
from gateway.suggestions import check_name
from gateway.trace.records import TraceFilter

CONTENT_TYPE = "application/problem+json"
SERVER_ERROR = 500

log = structlog.get_logger()


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error (RFC 9457)."""

    title: str
    """The status in words."""
    status: int
    detail: str
    """What is wrong, and what to do."""
    problems: tuple[str, ...] = ()
    """Single problems if there are several, such as those of a configuration file."""
    field: str = ""
    """The field of the body that is wrong; empty if none alone is, or if it is not known."""


class ApiProblem(Exception):
    """An expected error.

    Attributes:
        status: the status of the response.
        detail: what is wrong, and what to do.
        problems: single problems if there are several.
        field: the field of the body that is wrong; empty for none.
        headers: additional headers of the response.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        problems: Sequence[str] = (),
        field: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.problems = tuple(problems)
        self.field = field
        self.headers = headers or {}

    def answer(self) -> web.Response:
        """Return the problem as a response."""
        title = HTTPStatus(self.status).phrase
        details = ProblemDetails(title, self.status, self.detail, self.problems, self.field)
        return web.Response(
            status=self.status,
            body=orjson.dumps(msgspec.to_builtins(details)),
            headers={**self.headers, "content-type": CONTENT_TYPE},
        )


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Convert every exception to a problem response; log unexpected ones."""
    try:
        return await handler(request)
    except ApiProblem as problem:
        return problem.answer()
    except ConfigError as error:
        detail = "the configuration file has problems; nothing has changed"
        return ApiProblem(422, detail, problems=error.problems).answer()
    except (SpoolError, TraceError) as error:
        return ApiProblem(503, str(error)).answer()
    except UnknownName as error:
        status = 404 if "name" in request.match_info else 400
        return ApiProblem(status, str(error)).answer()
    except GatewayError as error:
        return ApiProblem(409, str(error)).answer()
    except web.HTTPException as error:
        kept = {k: v for k, v in error.headers.items() if k.lower() in {"allow", "location"}}
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return ApiProblem(error.status, _detail(request, error), headers=kept).answer()
    except Exception as error:
        if isinstance(error, RecursionError) and request.body_exists:
            # The JSON parser has no limit of its own.
            detail = "the body is nested too deeply; use fewer levels"
            return ApiProblem(HTTPStatus.BAD_REQUEST, detail).answer()
        log.exception("admin_failed", method=request.method, path=request.path)
        detail = "internal error; see admin_failed in the gateway's log"
        return ApiProblem(SERVER_ERROR, detail).answer()


def _detail(request: web.Request, error: web.HTTPException) -> str:
    if error.status == HTTPStatus.NOT_FOUND:
        return f"there is nothing at {request.path}; see /api/v1/openapi.json for all paths"
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f"{request.path} allows only {', '.join(sorted(error.allowed_methods))}"
    return error.reason


MOST = 32
"""Streams that may be open at once; each costs time for every event."""
RETRY_AFTER = 15
HEARTBEAT = 15.0
"""Seconds without data after which a comment is sent, so that a dead connection is noticed."""
PARTING = 2.0
"""Seconds in which a client must read why its stream ends."""
HEADERS = {"content-type": "text/event-stream", "cache-control": "no-store"}

T = TypeVar("T")


async def with_heartbeat(source: AsyncIterator[T]) -> AsyncIterator[T | None]:
    """Yield the items of *source*, and None after each `HEARTBEAT` without an item."""
    coming: asyncio.Future[T] | None = None
    try:
        while True:
            if coming is None:
                coming = asyncio.ensure_future(anext(source))
            done, _ = await asyncio.wait([coming], timeout=HEARTBEAT)
            if not done:
                yield None
                continue
            found, coming = coming, None
            try:
                yield found.result()
            except StopAsyncIteration:
                return
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


class EventStreams:
    """The open streams; they are ended before the server stops.

    Attributes:
        authorize: raises `ApiProblem` if who opened a stream is no longer who it was.
    """

    def __init__(self) -> None:
        self.authorize: Callable[[web.Request], None] = lambda _: None
        self._open: set[_Open] = set()

    async def send(
        self, http: web.Request, parts: AsyncIterator[bytes | None]
    ) -> web.StreamResponse:
        """Send *parts* until they end, the client disconnects, or the server stops.

        It also ends, after an event ``ended`` with the reason, once the caller loses its access.

        Raises:
            ApiProblem: too many streams are open, or the caller has just lost its access.
        """
        self.authorize(http)  # a reload may have come since the call was let in
        opened = self._admit(http)
        try:
            stream = web.StreamResponse(headers=HEADERS)
            await stream.prepare(http)
            if not opened.reason:
                opened.task = asyncio.ensure_future(self._copy(stream, parts))
                await self._finished(opened.task)
            if opened.reason:
                await self._say_end(stream, opened)
        finally:
            self._open.discard(opened)
        return stream

    @staticmethod
    async def _finished(task: asyncio.Task[None]) -> None:
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise

    @staticmethod
    async def _say_end(stream: web.StreamResponse, opened: "_Open") -> None:
        """Send why a stream ends; disconnect a client that does not read."""
        said = b"event: ended\ndata: %s\n\n" % orjson.dumps({"reason": opened.reason})
        try:
            async with asyncio.timeout(PARTING):
                await stream.write(said)
                await stream.write_eof()
        except TimeoutError:
            opened.abort()
        except ConnectionError:
            pass

    def reauthorize(self) -> None:
        """End the streams whose callers have lost their access."""
        for one in tuple(self._open):
            try:
                self.authorize(one.http)
            except ApiProblem as problem:
                one.reason = problem.detail
                one.end()

    def _admit(self, http: web.Request) -> "_Open":
        """Register a stream; streams whose clients are gone are ended and do not count."""
        read = [one for one in self._open if one.read]
        if len(self._open) >= MOST:
            for one in self._open.difference(read):
                one.end()
        if len(read) >= MOST:
            detail = f"{MOST} streams are open, which is the limit; close one and try again"
            raise ApiProblem(503, detail, headers={"retry-after": str(RETRY_AFTER)})
        opened = _Open(http)
        self._open.add(opened)
        return opened

    async def _copy(self, stream: web.StreamResponse, parts: AsyncIterator[bytes | None]) -> None:
        with contextlib.suppress(ConnectionError):
            await stream.write(b": the stream begins\n\n")
            async for part in parts:
                await stream.write(part or b": nothing new\n\n")

    async def close(self, app: web.Application) -> None:
        """End every stream."""
        del app
        for one in tuple(self._open):
            one.end()


class _Open:
    """An open stream.

    Attributes:
        http: the request that opened it.
        reason: why the caller has lost its access; empty if it has not.
    """

    def __init__(self, http: web.Request) -> None:
        self.http = http
        self.reason = ""
        self.task: asyncio.Task[None] | None = None
        self._transport = http.transport

    @property
    def read(self) -> bool:
        """Return whether the client is still connected, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Disconnect the client."""
        if self._transport is not None:
            self._transport.abort()

    def end(self) -> None:
        """End the stream if it has started."""
        if self.task is not None:
            self.task.cancel()


class AdminContext:
    """The running gateway for the endpoints.

    Attributes:
        gateway: the gateway.
        reloading: reloads its configuration.
        started: Unix seconds at which the gateway started.
        series: samples of the last hour.
        activity: the minutes of the last day.
        streams: the open streams.
        audit: the record of what operators do.
    """

    def __init__(self, gateway: "Gateway", reloading: Reloader) -> None:
        self.gateway = gateway
        self.reloading = reloading
        self.started = time.time()
        self.activity = ActivityLog(ActivityFile(gateway.config.spool.path / "activity.db"))
        self.series = ActivitySampler(gateway, self.activity)
        self.streams = EventStreams()
        self.audit = AuditLog(gateway.config.spool.path, self._audit_retention)

    async def record(self, entry: AuditEntry) -> None:
        """Log an action, and record it.

        It is not refused because it cannot be recorded: on a full disk operators must be able to
        help. The log then has it, with the reason.
        """
        said = msgspec.structs.asdict(entry)
        log.info("admin_action", **{name: text for name, text in said.items() if text})
        try:
            await asyncio.to_thread(self.audit.add, entry)
        except SpoolError as error:
            log.error("audit_failed", reason=str(error))  # noqa: TRY400 - the reason says it all

    def _audit_retention(self) -> float:
        return (self.gateway.config.admin or AdminConfig()).audit_retention

    def hide(self, text: str) -> str:
        """Return *text* without the configured credentials."""
        return self.gateway.observer.redactor.text(text)

    def team(self, name: str) -> Team:
        """Return the team of a destination.

        Raises:
            UnknownName: there is no such destination, or a reload is removing it.
        """
        teams = self.gateway.teams
        check_name("destination", name, teams.keys() & self.gateway.config.destinations.keys())
        return teams[name]

    async def check_names(self, source: str | None, destination: str | None) -> None:
        """Check the names in a filter; None selects all.

        Names that only traces or the spool still have are valid too.

        Raises:
            UnknownName: a name does not exist.
        """
        gateway = self.gateway
        find = gateway.observer.traces.find
        config = gateway.config
        if (
            source is not None
            and source not in config.sources
            and not await find(TraceFilter(source=source), limit=1)
        ):
            check_name("source", source, config.sources)
        if destination is None or destination in config.destinations:
            return
        if not await find(TraceFilter(destination=destination), limit=1):
            known = {*config.destinations, *await gateway.spool.orphans()}
            check_name("destination", destination, known)
