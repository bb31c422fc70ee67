"""Relay files that pages load from the vendor, such as scripts, and keep them in memory.

It is a shared cache (RFC 9111) of one kind of response: 200 to a GET without a query. A file is
fresh as long as its server says, is then revalidated, and is served stale while its server fails.
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
import structlog
from msgspec.structs import replace
from yarl import URL

from gateway.config.proxy import Proxy
from gateway.errors import Fault, RefusalCause, Rejected, Unavailable
from gateway.http import Request, Response
from gateway.http_client import Connector, unpacked, vendor_session
from gateway.ingest.relay import failure_cause, proxy_arguments
from gateway.log_limit import LogLimit

MOST_BYTES = 32 * 1024 * 1024
"""Bytes of all files that are kept; those that were not asked for longest go first."""
LARGEST = 4 * 1024 * 1024
"""Bytes of a file, as sent; larger ones are not served. Segment's script has about 110 KB."""
LARGEST_PLAIN = 4 * LARGEST
"""Bytes of a file that is decompressed for a client that cannot do so itself."""
OVERHEAD = 1024
"""Bytes that a kept file costs beside its body."""
PARALLEL = 16
"""Files that are fetched at the same time; with `LARGEST`, this bounds the memory."""
USUAL = 300.0
"""Seconds that a file stays fresh if its server says nothing about that."""
PATIENCE = 2.0
"""Seconds that a page waits for the revalidation of a file that is kept; then it gets that."""
AGAIN = 10.0
"""Seconds after a failed revalidation in which the kept file is served without another one."""
QUIET = 10.0
"""Seconds between two log lines about the same failure of a source's files."""
GZIP = frozenset({"gzip", "x-gzip"})
KEPT = ("content-type", "content-encoding", "cache-control", "etag", "last-modified")
"""Headers of a response that pages get; ``vary`` and ``age`` are the gateway's own."""
MISSING = frozenset({400, 401, 403, 404, 405, 410, 451})
"""Statuses by which a server says that it has no such file."""
_SECONDS = re.compile(r"(?:^|[\s,])(s-maxage|max-age)\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_UNUSABLE = re.compile(r"(?:^|[\s,])(no-store|private)(?:$|[\s,=])", re.IGNORECASE)
_DOUBTFUL = re.compile(r"(?:^|[\s,])no-cache(?:$|[\s,])", re.IGNORECASE)
_NO_GZIP = re.compile(r"(?:^|,)\s*(?:x-)?gzip\s*;\s*q\s*=\s*0(?:\.0*)?\s*(?:$|,)", re.IGNORECASE)
_MANY_GZIP = re.compile(r"(?:^|,)\s*(?:x-)?gzip\s*(?:$|[;,])", re.IGNORECASE)

log = structlog.get_logger()


class CachedFile(NamedTuple):
    """A file that was fetched."""

    response: Response
    made: float
    """When its server made or last confirmed the response, on the cache's clock."""
    due: float
    """When it has to be revalidated."""

    @property
    def size(self) -> int:
        """Return the bytes that it takes in memory."""
        return len(self.response.body) + OVERHEAD


class FetchFailure(NamedTuple):
    """Why a file could not be fetched."""

    fault: Fault
    """`Fault.NOT_FOUND` if its server has no such file, else `Fault.UNAVAILABLE`."""
    cause: str


class FileCache:
    """Fetches files, and keeps them in memory.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._files: OrderedDict[str, CachedFile] = OrderedDict()
        self._fetches: dict[str, asyncio.Task[CachedFile | FetchFailure]] = {}
        self._turns = asyncio.Semaphore(PARALLEL)
        self._session: aiohttp.ClientSession | None = None
        self.bytes = 0

    async def get(
        self, url: str, through: Mapping[str, Any], patience: float
    ) -> tuple[CachedFile | None, FetchFailure | None]:
        """Return the file at *url*, and why it could not be fetched just now.

        One fetch serves all who wait for the same file; it goes on if they leave.

        Args:
            url: of the file, without a query.
            through: aiohttp's arguments for a proxy.
            patience: seconds that a fetch may take.
        """
        known = self._files.get(url)
        if known is not None:
            self._files.move_to_end(url)
            if self._clock() < known.due:
                return known, None
        fetch = self._fetches.get(url)
        if fetch is None:
            work = self._fetch(url, known, through, patience)
            fetch = self._fetches[url] = asyncio.get_running_loop().create_task(work)
            fetch.add_done_callback(lambda _: self._fetches.pop(url, None))
        await asyncio.wait({fetch}, timeout=None if known is None else PATIENCE)
        if not fetch.done():
            return known, FetchFailure(Fault.UNAVAILABLE, "timeout")
        found = fetch.result()
        if isinstance(found, CachedFile):
            return found, None
        return (None if found.fault is Fault.NOT_FOUND else known), found

    async def close(self) -> None:
        """End all fetches, and close all connections."""
        fetches = list(self._fetches.values())
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _fetch(
        self, url: str, known: CachedFile | None, through: Mapping[str, Any], patience: float
    ) -> CachedFile | FetchFailure:
        """Fetch or revalidate a file, and keep what comes of it."""
        try:
            async with self._turns, asyncio.timeout(patience):
                found = await self._asked(url, known, through)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            found = FetchFailure(Fault.UNAVAILABLE, failure_cause(error))
        if isinstance(found, CachedFile):
            self._keep(url, found)
        elif found.fault is Fault.NOT_FOUND:
            self._drop(url)
        elif known is not None:
            self._keep(url, known._replace(due=self._clock() + AGAIN))
        return found

    async def _asked(
        self, url: str, known: CachedFile | None, through: Mapping[str, Any]
    ) -> CachedFile | FetchFailure:
        """Ask the file's server for it.

        Raises:
            ClientError, OSError, ValueError: there is no valid response.
        """
        if self._session is None:
            connector = Connector(limit=PARALLEL, ttl_dns_cache=300)
            self._session = vendor_session(connector, also_skip=("content-type",))
        headers = {"accept-encoding": "gzip"}
        began = self._clock()
        if known is not None:
            headers |= _conditions(known.response)
        call = self._session.get(
            URL(url, encoded=True), headers=headers, allow_redirects=False, **through
        )
        async with call as found:
            said = {name: found.headers[name] for name in KEPT if name in found.headers}
            age = found.headers.get("age", "")
            made = began - (int(age) if age.isascii() and age.isdigit() else 0)
            if found.status == HTTPStatus.NOT_MODIFIED and known is not None:
                body, said = known.response.body, {**known.response.headers, **said}
            elif found.status == HTTPStatus.OK:
                body = await _body(found)
            elif found.status in MISSING:
                return FetchFailure(Fault.NOT_FOUND, f"status {found.status}")
            else:
                return FetchFailure(Fault.UNAVAILABLE, f"status {found.status}")
        if said.get("content-encoding", "identity").lower() not in GZIP | {"identity"}:
            return FetchFailure(Fault.UNAVAILABLE, "unknown content-encoding")
        if _is_broken(body, said.get("content-encoding", "identity")):
            return FetchFailure(Fault.UNAVAILABLE, "broken gzip")
        response = Response(200, {**said, "vary": "accept-encoding"}, body)
        return CachedFile(response, made, made + freshness(said.get("cache-control", "")))

    def _keep(self, url: str, file: CachedFile) -> None:
        """Keep *file*, if it may be; drop those that were not asked for longest for it."""
        self._drop(url)
        if _UNUSABLE.search(file.response.headers.get("cache-control", "")):
            return
        self._files[url] = file
        self.bytes += file.size
        while self.bytes > MOST_BYTES:
            self._drop(next(iter(self._files)))

    def _drop(self, url: str) -> None:
        file = self._files.pop(url, None)
        if file is not None:
            self.bytes -= file.size

    def age(self, file: CachedFile) -> int:
        """Return the seconds since the server of *file* made or confirmed it."""
        return max(0, round(self._clock() - file.made))


class FileRelay:
    """Serves the vendor's files to the pages of one source.

    Args:
        source: name of the source.
        cache: keeps the files, those of other sources too.
        base: the URL that the files are below.
        proxy: the proxy that they are fetched through; None for none.
        patience: seconds that fetching one may take.
    """

    def __init__(
        self, source: str, cache: FileCache, base: str, proxy: Proxy | None, patience: float
    ) -> None:
        self._source = source
        self._cache = cache
        self._base = base.rstrip("/")
        self._through = proxy_arguments(proxy)
        self._patience = patience
        self._lines = LogLimit(1, QUIET)

    async def get(self, path: str, request: Request) -> Response:
        """Return the file at *path* for *request*, of which only the headers count.

        Raises:
            Rejected: there is no such file, or it cannot be fetched.
        """
        file, failure = await self._cache.get(self._base + path, self._through, self._patience)
        failed = failure is not None and failure.fault is Fault.UNAVAILABLE
        cause = failure.cause if failure is not None else ""
        if failed and (times := self._lines.take(cause)):
            url = URL(self._base + path, encoded=True)
            log.warning(
                "file_failed",
                source=self._source,
                request=request.id,
                cause=cause,
                host=url.host,
                path=url.raw_path,
                served="stale" if file else "nothing",
                times=times,
            )
        if file is not None:
            age = {"age": str(self._cache.age(file))}
            return _for_client(file.response, request.headers, age)
        if failed:
            what = f"the file cannot be fetched: {cause}"
            raise Unavailable(what, RefusalCause.RELAY_FAILED)
        raise Rejected("$", "no such file", Fault.NOT_FOUND)


def freshness(cache_control: str) -> float:
    """Return for how many seconds a response with this ``cache-control`` is fresh.

    See RFC 9111, section 5.2.2; ``s-maxage`` counts before ``max-age``.
    """
    if _DOUBTFUL.search(cache_control):
        return 0.0
    said = {name.lower(): float(seconds) for name, seconds in _SECONDS.findall(cache_control)}
    return said.get("s-maxage", said.get("max-age", USUAL))


async def _body(found: aiohttp.ClientResponse) -> bytes:
    """Return the body of a response.

    Raises:
        ValueError: it is too large.
    """
    body = bytearray()
    async for piece in found.content.iter_any():
        body += piece
        if len(body) > LARGEST:
            raise ValueError("too large")
    return bytes(body)


def _is_broken(body: bytes, coding: str) -> bool:
    """Return whether no client can decompress *body*; at most `LARGEST_PLAIN` bytes are tried."""
    plain = unpacked(body, coding, LARGEST_PLAIN)
    return bool(plain.unread) or (plain.cut and len(plain.body) < LARGEST_PLAIN)


def _conditions(response: Response) -> dict[str, str]:
    """Return the headers that ask whether a file has changed (RFC 9110, section 13.1)."""
    said, asked = response.headers, {}
    if "etag" in said:
        asked["if-none-match"] = said["etag"]
    if "last-modified" in said:
        asked["if-modified-since"] = said["last-modified"]
    return asked


def _for_client(response: Response, asked: Mapping[str, str], age: Mapping[str, str]) -> Response:
    """Return *response* as a client with these headers can read it.

    Raises:
        Unavailable: it cannot be decompressed.
    """
    headers = {**response.headers, **age}
    known = asked.get("if-none-match", "")
    if "etag" in headers and headers["etag"] in [one.strip() for one in known.split(",")]:
        del headers["content-type"]
        headers.pop("content-encoding", None)
        return Response(HTTPStatus.NOT_MODIFIED, headers)
    response = replace(response, headers=headers)
    coding = headers.get("content-encoding", "identity").lower()
    accepted = asked.get("accept-encoding", "")
    if coding == "identity" or (_MANY_GZIP.search(accepted) and not _NO_GZIP.search(accepted)):
        return response
    del headers["content-encoding"]
    headers.pop("etag", None)  # it is that of the compressed file
    plain = unpacked(response.body, coding, LARGEST_PLAIN)
    if plain.cut:
        raise Unavailable("the file cannot be decompressed", RefusalCause.RELAY_FAILED)
    return Response(200, headers, plain.body)
