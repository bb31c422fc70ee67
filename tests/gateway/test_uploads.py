"""Closed files go to a bucket: each until it is there, whatever happens meanwhile."""

import asyncio
import gzip
import hashlib
import json
import os
import re
import ssl
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from gateway.config.tls_files import read_tls_files
from gateway.delivery.file_transport import FileTransport
from gateway.testing.live_gateway import PATIENCE, serving
from tests.gateway.test_file_destination import put, tear
from tests.gateway.upload_destination import UploadDestination
from tests.s3_server import AccessKey, S3Server

pytestmark = pytest.mark.xdist_group("s3")

PREFIX = "raw/date=%Y-%m-%d"
NAME = r"raw/date=(\d{4})-(\d\d)-(\d\d)/events-\1\2\3T\d{6}Z-\d{6}-[0-9a-f]{8}[.]ndjson"
MIB = 1024**2


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - another thread makes it so
            await asyncio.sleep(0.005)


def complete(folder: Path) -> list[Path]:
    """Return the closed files of a folder."""
    return sorted(path for path in folder.glob("events-*") if path.suffix != ".part")


def left(folder: Path) -> list[str]:
    """Return the endings of the files in a folder."""
    return sorted("".join(path.suffixes) for path in folder.glob("events-*"))


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_a_closed_file_goes_to_the_bucket(
    compression: str, tmp_path: Path, s3_server: S3Server
) -> None:
    """A closed file becomes one object, named by its time and content, and is deleted here."""
    bucket = s3_server.bucket()
    to = UploadDestination(
        tmp_path,
        s3_server.url,
        bucket,
        s3_server.user(),
        compression=compression,
        rotate_bytes=4,
        prefix=PREFIX,
    )
    async with to.open() as (transport, uploads):
        await put(transport, b"111\n")
        await until(lambda: uploads.status().uploaded == 1)
        await put(transport, b"2\n")
        assert left(tmp_path) == [".ndjson.part"]
    ((name, content),) = s3_server.objects(bucket).items()
    packed = compression == "gzip"
    assert re.fullmatch(NAME + r"[.]gz" * packed, name)
    assert (gzip.decompress(content) if packed else content) == b"111\n"
    kind = s3_server.content_type(bucket, name)
    assert kind == ("application/gzip" if packed else "application/x-ndjson")


async def test_a_large_file_goes_in_parts(tmp_path: Path, s3_server: S3Server) -> None:
    """A file above 5 MiB is sent in parts, so that a failure repeats one of them."""
    bucket, line = s3_server.bucket(), os.urandom(12 * MIB).replace(b"\n", b"") + b"\n"
    to = UploadDestination(tmp_path, s3_server.url, bucket, s3_server.user(), rotate_bytes=9 * MIB)
    async with to.open() as (transport, uploads):
        await put(transport, line)
        await until(lambda: uploads.status().uploaded)
    assert list(s3_server.objects(bucket).values()) == [line]
    parts = [one for one in s3_server.requests if f"/{bucket}/" in one and "partNumber" in one]
    assert len(parts) == 3


async def test_what_a_stop_left_is_uploaded_at_the_next_start(
    tmp_path: Path, s3_server: S3Server
) -> None:
    """Files that were closed or torn before are uploaded without a new event, under one name."""
    bucket = s3_server.bucket()
    to = UploadDestination(tmp_path, s3_server.url, bucket, s3_server.user())
    plain = FileTransport(to.rules)
    await put(plain, b"1\n")
    await plain.close()
    (closed,) = complete(tmp_path)
    kept = closed.read_bytes()
    plain = FileTransport(to.rules)
    await put(plain, b"2\n")
    tear(tmp_path)
    async with to.open() as (_, uploads):  # waits for the lock of the other one
        await plain.close()
        await until(lambda: uploads.status().uploaded == 2)
    found = s3_server.objects(bucket)
    assert sorted(content for content in found.values()) == [b"1\n", b"2\n"]
    closed.write_bytes(kept)  # as if it had been killed before it was deleted
    async with to.open() as (_, uploads):
        await until(lambda: uploads.status().uploaded)
    assert s3_server.objects(bucket) == found
    assert left(tmp_path) == []


async def test_a_file_waits_while_the_storage_is_away(tmp_path: Path, s3_server: S3Server) -> None:
    """While nothing answers files wait, at most ``max_waiting``; then events wait."""
    bucket, lines = s3_server.bucket(), [b"1" * 10 + b"\n", b"2" * 10 + b"\n", b"3\n"]
    to = UploadDestination(
        tmp_path, s3_server.url, bucket, s3_server.user(), rotate_bytes=4, max_waiting=20
    )
    async with to.open() as (transport, uploads):
        s3_server.stop()
        try:
            for line in lines[:2]:
                assert [one.status for one in await put(transport, line)] == [200]
            await until(lambda: uploads.status().failed > 1)
            (full,) = await put(transport, lines[2])
            assert full.status == 507
            assert b"wait to be uploaded, and max_waiting is" in full.body
            assert b"cannot be reached: Connection refused" in full.body
            assert uploads.status()[:2] == (2, 22)
            assert left(tmp_path) == [".ndjson", ".ndjson"]
        finally:
            s3_server.start()
        await until(lambda: uploads.status().uploaded == 2)
        assert uploads.status().problem == ""
        assert [one.status for one in await put(transport, lines[2])] == [200]
    assert sorted(s3_server.objects(bucket).values()) == lines[:2]


@pytest.mark.parametrize(
    ("wrong", "cause", "said"),
    [
        ("key", "credential", "HTTP 403: InvalidAccessKeyId"),
        ("secret", "credential", "HTTP 403: SignatureDoesNotMatch"),
        ("reading", "credential", "does not show what it took (s3:GetObject): HTTP 403"),
        ("bucket", "bucket", "there is no bucket nowhere: HTTP 404: NoSuchBucket"),
    ],
)
async def test_a_refused_upload_keeps_the_file(
    wrong: str, cause: str, said: str, tmp_path: Path, s3_server: S3Server
) -> None:
    """A file stays until the bucket shows it; the reason is the storage's, without a secret."""
    bucket, key = s3_server.bucket(), s3_server.user()
    if wrong == "key":
        key = key._replace(access_key="AKIAWRONGWRONGWRONG1")
    elif wrong == "secret":
        key = key._replace(secret_key=key.secret_key[::-1])
    elif wrong == "reading":
        key = s3_server.user("s3:PutObject")
    else:
        bucket = "nowhere"
    to = UploadDestination(tmp_path, s3_server.url, bucket, key, rotate_bytes=2)
    async with to.open() as (transport, uploads):
        assert [one.status for one in await put(transport, b"1\n")] == [200]
        await until(lambda: uploads.status().failed > 1)
        status = uploads.status()
    assert (status.cause, status.files, status.uploaded) == (cause, 1, 0)
    assert said in status.problem
    assert "\n" not in status.problem
    assert not any(secret in status.problem for secret in key)
    assert left(tmp_path) == [".ndjson"]


def storage(
    shown: dict[str, str], on_request: Callable[[web.Request], object] | None = None
) -> web.Application:
    """Return a storage that takes everything, and answers HEAD with the headers *shown*."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        if on_request is not None:
            on_request(request)
        if request.method == "PUT":
            return web.Response(headers={"etag": '"a"'})
        modified = {"last-modified": "Tue, 01 Dec 2026 12:00:00 GMT"}
        return web.Response(headers=shown | modified)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


SHOWN = {"content-length": "2", "etag": '"a"'}


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ({"content-length": "1", "etag": '"a"'}, "has 1 bytes in the bucket, and 2 here"),
        ({"content-length": "2", "etag": '"b"'}, "something else wrote it"),
    ],
)
async def test_only_what_the_bucket_shows_is_deleted(
    shown: dict[str, str], said: str, tmp_path: Path
) -> None:
    """A file of which the storage shows another size or ETag than it took is not deleted."""
    async with serving(storage(shown)) as url:
        to = UploadDestination(tmp_path, url, "events", AccessKey("key", "secret"), rotate_bytes=2)
        async with to.open() as (transport, uploads):
            await put(transport, b"1\n")
            await until(lambda: uploads.status().failed)
            assert said in uploads.status().problem
    assert left(tmp_path) == [".ndjson"]


async def test_files_that_change_meanwhile_are_not_counted_for_ever(tmp_path: Path) -> None:
    """A file that is taken away or cut during an upload leaves nothing that counts as waiting."""
    first, cut, taken = closed = [
        tmp_path / f"events-2026010{day}T000000Z-000000.ndjson" for day in (1, 2, 3)
    ]
    for path in closed:
        path.write_bytes(b"1\n" * 10)
    first.write_bytes(b"1\n")

    def change(request: web.Request) -> None:
        if first.name.partition(".")[0] in request.path and request.method == "PUT":
            first.unlink()
            cut.write_bytes(b"1\n")
            taken.unlink()

    async with serving(storage(SHOWN, change)) as url:
        to = UploadDestination(tmp_path, url, "events", AccessKey("key", "secret"))
        async with to.open() as (_, uploads):
            await until(lambda: uploads.status().uploaded == 2)
            await until(lambda: uploads.status()[:2] == (0, 0))
            assert uploads.status().problem == ""


@pytest.mark.parametrize(
    "bad", ["events-20260231T000000Z-000000", "events-20260203T000000Z-000000"]
)
async def test_a_bad_file_keeps_no_other_from_its_bucket(bad: str, tmp_path: Path) -> None:
    """A file with an impossible time, or that cannot be read, is left out and named."""
    broken = tmp_path / f"{bad}.ndjson"
    for name in ("events-20260201T000000Z-000000", bad, "events-20260301T000000Z-000000"):
        (tmp_path / f"{name}.ndjson").write_bytes(b"1\n")

    def turn_into_a_folder(request: web.Request) -> None:
        assert bad not in request.path
        if "0203" in bad and broken.is_file():
            broken.unlink()
            broken.mkdir()

    async with serving(storage(SHOWN, turn_into_a_folder)) as url:
        slow = {"retry_min": 60, "retry_max": 60}
        to = UploadDestination(tmp_path, url, "events", AccessKey("key", "secret"), slow)
        async with to.open() as (_, uploads):
            await until(lambda: uploads.status().failed)
            status = uploads.status()
    assert (status.uploaded, status.files, status.cause) == (2, 1, "disk")
    assert bad in status.problem
    assert complete(tmp_path) == [broken]


async def test_a_reason_is_short(tmp_path: Path) -> None:
    """Of a long answer of the storage one line of 500 characters is kept."""

    def refuse(_: web.Request) -> None:
        message = "too\nlong " * 30_000
        raise web.HTTPBadRequest(text=f"<Code>Bad</Code><Message>{message}</Message>")

    async with serving(storage(SHOWN, refuse)) as url:
        to = UploadDestination(tmp_path, url, "events", AccessKey("key", "secret"), rotate_bytes=2)
        async with to.open() as (transport, uploads):
            await put(transport, b"1\n")
            await until(lambda: uploads.status().failed)
            problem = uploads.status().problem
    assert problem.startswith("HTTP 400: Bad: too long too long")
    assert len(problem) == 500


async def test_a_proxy_that_is_away_is_named(tmp_path: Path) -> None:
    """If nothing answers at the proxy, the reason has its address, without the password."""
    delivery: dict[str, object] = {"proxy": "http://me:word@127.0.0.1:1"}
    address, key = "http://storage.invalid", AccessKey("key", "secret")
    to = UploadDestination(tmp_path, address, "events", key, delivery, rotate_bytes=2)
    async with to.open() as (transport, uploads):
        await put(transport, b"1\n")
        await until(lambda: uploads.status().failed)
        problem = uploads.status().problem
    said = "cannot be reached through proxy 127.0.0.1:1: Connection refused"
    assert problem == f"{address} {said}"


@pytest.mark.parametrize("proxied", [False, True])
async def test_the_configuration_says_how_the_storage_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, proxied: bool
) -> None:
    """No variable of the environment changes how a request goes or is signed; settings do."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-key")
    for switch in (
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        "AWS_UNSIGNED_PAYLOAD",
        "AWS_SKIP_SIGNATURE",
        "AWS_REQUEST_PAYER",
        "AWS_S3_EXPRESS",
    ):
        monkeypatch.setenv(switch, "true")
    seen: list[web.Request] = []
    delivery: dict[str, object] = {"headers": {"x-tenant": "shop-1"}}
    async with serving(storage(SHOWN, seen.append)) as url:
        address = "http://storage.invalid" if proxied else url
        delivery |= {"proxy": url.replace("//", "//me:word@")} if proxied else {}
        key = AccessKey("my-key", "secret")
        to = UploadDestination(tmp_path, address, "events", key, delivery, rotate_bytes=2)
        async with to.open() as (transport, uploads):
            await put(transport, b"1\n")
            await until(lambda: uploads.status().uploaded)
    for request in seen:
        assert request.headers["host"] == address.removeprefix("http://")
        assert request.path.startswith("/events/events-")
        assert request.headers["x-tenant"] == "shop-1"
        assert "Credential=my-key/" in request.headers["authorization"]
        assert "x-amz-security-token" not in request.headers
        assert "x-amz-request-payer" not in request.headers
        content = b"1\n" if request.method == "PUT" else b""
        assert request.headers["x-amz-content-sha256"] == hashlib.sha256(content).hexdigest()
        assert ("proxy-authorization" in request.headers) == proxied


async def test_the_environment_may_have_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_server: S3Server
) -> None:
    """Without a key in the table that of the environment signs the requests."""
    bucket, key = s3_server.bucket(), s3_server.user()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret_key)
    to = UploadDestination(tmp_path, s3_server.url, bucket, None, rotate_bytes=2)
    async with to.open() as (transport, uploads):
        await put(transport, b"1\n")
        await until(lambda: uploads.status().uploaded)
    assert list(s3_server.objects(bucket).values()) == [b"1\n"]


async def test_a_private_authority_may_vouch_for_the_storage(
    tmp_path: Path, certificate_authority: trustme.CA
) -> None:
    """A storage is believed only if an authority of the system or of ``ca`` vouches for it."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate_authority.issue_cert("127.0.0.1").configure_cert(served)
    certificate_authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    key, folder = AccessKey("key", "secret"), tmp_path / "files"
    async with serving_tls(storage(SHOWN), served) as url:
        for trusted in (False, True):
            tls = {"tls": read_tls_files(tmp_path / "ca.pem", None, None)} if trusted else {}
            to = UploadDestination(folder, url, "events", key, tls, rotate_bytes=2)
            async with to.open() as (transport, uploads):
                if not trusted:
                    await put(transport, b"1\n")
                counts = uploads.status
                await until(lambda counts=counts: sum(counts()[-2:]))  # type: ignore[misc]
                assert uploads.status().uploaded == trusted, uploads.status().problem


@asynccontextmanager
async def serving_tls(app: web.Application, settings: ssl.SSLContext) -> AsyncIterator[str]:
    """Serve *app* over TLS; yield its address."""
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=settings).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_stop_does_not_wait_for_the_storage(tmp_path: Path) -> None:
    """A gateway that stops leaves an upload without an answer to its next start."""
    asked, left_alone = asyncio.Event(), asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()
        left_alone.set()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        to = UploadDestination(tmp_path, url, "events", AccessKey("k", "s"), rotate_bytes=2)
        async with asyncio.timeout(PATIENCE):
            async with to.open() as (transport, _):
                await put(transport, b"1\n")
                await asked.wait()
            await left_alone.wait()
    assert left(tmp_path) == [".ndjson"]


WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.http import Request
from tests.gateway.upload_destination import UploadDestination
from tests.s3_server import AccessKey

async def run():
    folder, url, bucket, *key = sys.argv[1:]
    to = UploadDestination(Path(folder), url, bucket, AccessKey(*key), rotate_bytes=20_000)
    number = 0
    async with to.open() as (files, _):
        while True:
            done = asyncio.Event()
            for number in range(number + 1, number + 21):
                line = b'{"n": %d, "text": "%s"}\\n' % (number, b"x" * 100)
                request = Request(method="POST", url="file:///", body=line)
                files.post(request, lambda end: done.set())
            await done.wait()
            print(number, file=sys.stderr, flush=True)
asyncio.run(run())
"""


async def test_a_kill_loses_no_line(tmp_path: Path, s3_server: S3Server) -> None:
    """After kill -9 between upload and deletion, every delivered line reaches the bucket."""
    bucket, key = s3_server.bucket(), s3_server.user()
    command = [sys.executable, "-c", WRITER, str(tmp_path), s3_server.url, bucket, *key]
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=PIPE)
    assert process.stderr is not None
    told = [await process.stderr.readline()]
    while len(s3_server.objects(bucket)) < 3:
        told.append(await process.stderr.readline())
    process.kill()
    told += (await process.communicate())[1].split(b"\n")
    to = UploadDestination(tmp_path, s3_server.url, bucket, key)
    async with to.open():
        await until(lambda: not left(tmp_path))
    found = sorted(s3_server.objects(bucket).items())
    numbers = [json.loads(line)["n"] for _, content in found for line in content.splitlines()]
    assert sorted(set(numbers)) == list(range(1, len(numbers) + 1))
    assert len(numbers) >= max(map(int, filter(None, told)))
