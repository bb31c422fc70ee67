"""Files for pages are kept, revalidated, and served stale while their server fails."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from gateway.errors import Rejected, Unavailable
from gateway.http import Request
from gateway.ingest import file_relay
from gateway.ingest.file_relay import AGAIN, FileCache, FileRelay, freshness
from gateway.testing.live_gateway import PATIENCE, serving

MINUTE = "max-age=60"
BROWSER = {"accept-encoding": "br, gzip"}


@dataclass
class Cdn:
    """A server of files, and a cache in front of it whose clock stands still."""

    relay: FileRelay = field(init=False)
    cache: FileCache = field(init=False)
    now: float = 1000.0
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"cache-control": MINUTE})
    body: bytes = b"let a = 1;"
    asked: list[dict[str, str]] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, request: web.Request) -> web.Response:
        """Answer once `answers` is set, and note the headers."""
        self.asked.append({name.lower(): said for name, said in request.headers.items()})
        await self.answers.wait()
        headers = {"content-type": "text/javascript", **self.headers}
        if "etag" in headers and request.headers.get("if-none-match") == headers["etag"]:
            return web.Response(status=304, headers=self.headers)
        return web.Response(status=self.status, headers=headers, body=self.body)

    async def get(self, path: str = "/a.js", **asked: str) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers as a page gets them."""
        headers = {**BROWSER, **{name.replace("_", "-"): said for name, said in asked.items()}}
        request = Request(method="GET", url=path, headers=headers)
        response = await self.relay.get(path, request)
        return response.status, response.body, dict(response.headers)


@pytest.fixture
async def cdn() -> AsyncIterator[Cdn]:
    """Serve a Cdn that answers at once."""
    made = Cdn()
    made.answers.set()
    made.cache = FileCache(lambda: made.now)
    app = web.Application()
    app.router.add_get("/{name}", made.serve)
    async with serving(app) as url:
        made.relay = FileRelay("shop", made.cache, url, None, PATIENCE)
        yield made
        await made.cache.close()


async def test_a_file_is_fetched_once_while_it_is_fresh(cdn: Cdn) -> None:
    """Pages at once and later share one fetch, and learn how old the file is."""
    cdn.headers |= {"age": "20"}
    first, second = await asyncio.gather(cdn.get(), cdn.get())
    assert first == second
    cdn.now += 39
    status, body, headers = await cdn.get()
    assert (status, body, headers["age"], headers["vary"]) == (
        200,
        cdn.body,
        "59",
        "accept-encoding",
    )
    assert len(cdn.asked) == 1
    cdn.now += 1
    await cdn.get()
    assert len(cdn.asked) == 2


async def test_an_old_file_is_revalidated(cdn: Cdn) -> None:
    """A file that has not changed stays, one that has is replaced."""
    cdn.headers |= {"etag": '"1"', "last-modified": "Tue, 01 Dec 2026 00:00:00 GMT"}
    await cdn.get()
    cdn.now += 60
    assert (await cdn.get())[1] == cdn.body
    assert cdn.asked[1]["if-none-match"] == '"1"'
    assert cdn.asked[1]["if-modified-since"] == cdn.headers["last-modified"]
    await cdn.get()
    assert len(cdn.asked) == 2
    cdn.now += 60
    cdn.headers["etag"], cdn.body = '"2"', b"let b = 2;"
    assert (await cdn.get())[1] == b"let b = 2;"


@pytest.mark.parametrize(
    "fault", [503, 429, 302, "silence", "too large", "coding", "no gzip", "half a gzip"]
)
async def test_a_failing_server_is_covered_by_what_is_kept(
    cdn: Cdn, fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the server fails pages get the kept file, and it is asked again only after a pause."""
    good = cdn.body
    await cdn.get()
    if isinstance(fault, int):
        cdn.status = fault
    elif fault == "silence":
        monkeypatch.setattr(file_relay, "PATIENCE", 0.0)
        cdn.answers.clear()
    elif fault == "coding":
        cdn.headers["content-encoding"] = "br"
    elif fault in {"no gzip", "half a gzip"}:
        cdn.headers["content-encoding"] = "gzip"
        cdn.body = gzip.compress(good)[:-9] if fault == "half a gzip" else good
    else:
        monkeypatch.setattr(file_relay, "LARGEST", 20)
        cdn.body *= 3
    cdn.now += 60
    assert (await cdn.get())[1] == good
    assert (await cdn.get())[1] == good
    assert len(cdn.asked) <= 2
    if fault != "silence":
        with pytest.raises(Unavailable):
            await cdn.get("/b.js")
        cdn.now += AGAIN
        cdn.status, cdn.body, cdn.headers = 200, b"new", {}
        assert (await cdn.get())[1] == b"new"


async def test_a_file_that_is_gone_is_not_found(cdn: Cdn) -> None:
    """What the server no longer has is no longer served."""
    await cdn.get()
    cdn.now += 60
    cdn.status = 404
    with pytest.raises(Rejected, match="no such file"):
        await cdn.get()
    assert cdn.cache.bytes == 0


async def test_the_cache_is_bounded(cdn: Cdn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the file goes that was not asked for longest."""
    size = len(cdn.body) + file_relay.OVERHEAD
    monkeypatch.setattr(file_relay, "MOST_BYTES", 2 * size)
    for path in ("/a.js", "/b.js", "/a.js", "/c.js", "/a.js"):
        await cdn.get(path)
    assert cdn.cache.bytes == 2 * size
    assert len(cdn.asked) == 3
    await cdn.get("/b.js")
    assert len(cdn.asked) == 4


async def test_each_client_gets_what_it_can_read(cdn: Cdn) -> None:
    """A compressed file is decompressed for who needs that, and not sent to who has it."""
    plain, cdn.body = cdn.body, gzip.compress(cdn.body)
    cdn.headers |= {"content-encoding": "gzip", "etag": '"1"'}
    assert (await cdn.get())[1] == cdn.body
    for accepted in ("", "identity", "gzip;q=0", "br"):
        _, body, headers = await cdn.get(accept_encoding=accepted)
        assert body == plain
        assert not headers.keys() & {"content-encoding", "etag"}
    status, body, headers = await cdn.get(if_none_match='"0", "1"')
    assert (status, body, headers["etag"]) == (304, b"", '"1"')
    assert cdn.asked[0]["accept-encoding"] == "gzip"
    assert len(cdn.asked) == 1


@pytest.mark.parametrize("said", ["no-store", "private, max-age=60"])
async def test_what_may_not_be_kept_is_fetched_each_time(cdn: Cdn, said: str) -> None:
    """A server can keep a shared cache from keeping a file."""
    cdn.headers["cache-control"] = said
    await cdn.get()
    await cdn.get()
    assert (len(cdn.asked), cdn.cache.bytes) == (2, 0)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("", file_relay.USUAL), ("public, immutable", file_relay.USUAL), ("max-age=0", 0),
        ("public, max-age=31536000", 31536000), ("max-age=5, s-maxage=7", 7), ("no-cache", 0),
        ("S-MaxAge = 8,max-age=9", 8), ("x-max-age=3", file_relay.USUAL),
    ],
)  # fmt: skip
def test_a_server_says_how_long_a_file_is_fresh(said: str, seconds: float) -> None:
    """The rules of shared caches hold."""
    assert freshness(said) == seconds
