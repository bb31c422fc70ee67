"""What every endpoint works with: the gateway, problems (RFC 9457), event streams."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import TypeVar

import msgspec
import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.admin.sampler import ActivitySampler
from gateway.app import Gateway
from gateway.delivery import Worker
from gateway.errors import ConfigError, GatewayError, SpoolError, TraceError, UnknownName
from gateway.reload import Reloader
from gateway.suggestions import check_name
from gateway.trace.records import TraceFilter

CONTENT_TYPE = "application/problem+json"
SERVER_ERROR = 500

log = structlog.get_logger()


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong (RFC 9457)."""

    title: str
    """The status in words."""
    status: int
    detail: str
    """What is wrong, and what to do."""
    problems: tuple[str, ...] = ()
    """Where there are several: each, such as the findings in a configuration file."""


class ApiProblem(Exception):
    """A request that ends in an error, on purpose.

    Attributes:
        status: of the answer.
        detail: what is wrong, and what to do.
        problems: each of them, where there are several.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        problems: Sequence[str] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.problems = tuple(problems)
        self.headers = headers or {}

    def answer(self) -> web.Response:
        """Return the problem as an answer."""
        title = HTTPStatus(self.status).phrase
        said = ProblemDetails(title, self.status, self.detail, self.problems)
        return web.Response(
            status=self.status,
            body=orjson.dumps(msgspec.to_builtins(said)),
            headers={**self.headers, "content-type": CONTENT_TYPE},
        )


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer whatever goes wrong as a problem; what nobody foresaw is logged."""
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
            # The parser has no other bound.
            detail = "the body is nested too deeply to be read; send it with fewer levels"
            return ApiProblem(HTTPStatus.BAD_REQUEST, detail).answer()
        log.exception("admin_failed", method=request.method, path=request.path)
        detail = "the gateway made a mistake; its log has the details"
        return ApiProblem(SERVER_ERROR, detail).answer()


def _detail(request: web.Request, error: web.HTTPException) -> str:
    if error.status == HTTPStatus.NOT_FOUND:
        return f"there is nothing at {request.path}; /api/v1/openapi.json lists what there is"
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f"{request.path} takes {', '.join(sorted(error.allowed_methods))} only"
    return error.reason


MOST = 32
"""Streams that may be open at once: each costs the loop something for every event."""
RETRY_AFTER = 15
HEARTBEAT = 15.0
"""Seconds of silence after which a stream is tested, so that one nobody reads comes to its end."""
HEADERS = {"content-type": "text/event-stream", "cache-control": "no-store"}

T = TypeVar("T")


async def with_heartbeat(source: AsyncIterator[T]) -> AsyncIterator[T | None]:
    """Yield what *source* yields, and None wherever it has nothing for a while."""
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
    """The streams that are open, so that they can be ended before the server stops."""

    def __init__(self) -> None:
        self._open: set[_Open] = set()

    async def send(
        self, http: web.Request, parts: AsyncIterator[bytes | None]
    ) -> web.StreamResponse:
        """Send *parts* as they come, until they end, the reader leaves, or the server stops.

        Raises:
            Problem: as many are open as may be.
        """
        opened = self._admit(http)
        try:
            stream = web.StreamResponse(headers=HEADERS)
            await stream.prepare(http)
            opened.task = asyncio.ensure_future(self._copy(stream, parts))
            await self._finished(opened.task)
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

    def _admit(self, http: web.Request) -> "_Open":
        """Count one more stream; those that nobody reads any more are ended and do not count."""
        read = [one for one in self._open if one.read]
        if len(self._open) >= MOST:
            for one in self._open.difference(read):
                one.end()
        if len(read) >= MOST:
            detail = f"{MOST} streams are open, which is as many as may be; end one, then try again"
            raise ApiProblem(503, detail, headers={"retry-after": str(RETRY_AFTER)})
        opened = _Open(http.transport)
        self._open.add(opened)
        return opened

    async def _copy(self, stream: web.StreamResponse, parts: AsyncIterator[bytes | None]) -> None:
        with contextlib.suppress(ConnectionError):
            await stream.write(b": here it begins\n\n")
            async for part in parts:
                await stream.write(part or b": nothing new\n\n")

    async def close(self, app: web.Application) -> None:
        """End every stream."""
        del app
        for one in tuple(self._open):
            one.end()


class _Open:
    """A stream that is open."""

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport
        self.task: asyncio.Task[None] | None = None

    @property
    def read(self) -> bool:
        """Tell whether its reader is there, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def end(self) -> None:
        """End it, once it has begun."""
        if self.task is not None:
            self.task.cancel()


class AdminContext:
    """The running gateway, as those see it who look after it.

    Attributes:
        gateway: what is looked at.
        reloading: reads its configuration again.
        started: Unix seconds at which the gateway began.
        series: what happened in the last hour.
        streams: those who watch now.
    """

    def __init__(self, gateway: "Gateway", reloading: Reloader) -> None:
        self.gateway = gateway
        self.reloading = reloading
        self.started = time.time()
        self.series = ActivitySampler(gateway)
        self.streams = EventStreams()

    def hide(self, text: str) -> str:
        """Return *text* without the credentials of the configuration in effect."""
        return self.gateway.observer.redactor.text(text)

    def worker(self, name: str) -> Worker:
        """Return the worker of a destination.

        Raises:
            UnknownName: there is none, or a reload is just removing it.
        """
        workers = self.gateway.workers
        check_name("destination", name, workers.keys() & self.gateway.config.destinations.keys())
        return workers[name]

    async def check_names(self, source: str | None, destination: str | None) -> None:
        """Check the names by which somebody selects; None selects all.

        Names that only traces or the spool still have are valid, too.

        Raises:
            UnknownName: one does not exist.
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
