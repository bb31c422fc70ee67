"""Events in files: whole lines, closed at their size and time, and nothing lost in a crash."""

import asyncio
import gzip
import json
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config.loader.load import load
from gateway.delivery.authorization import make_authorized_transport
from gateway.delivery.file_transport import FileTransport
from gateway.errors import ConfigError, TransportError
from gateway.event import Event, Properties
from gateway.http import Request, Response
from gateway.plugin.file_rules import FileRules
from gateway.plugin.registry import load_plugins
from gateway.testing.live_gateway import PATIENCE
from gateway.verdict import RetryLater
from plugins.http.file_output import FileOutput, FileSettings

REGISTRY = load_plugins()
BIG = 10**9


@asynccontextmanager
async def writing(
    folder: Path, size: int = BIG, time: float = PATIENCE, *, gzip: bool = False
) -> AsyncIterator[FileTransport]:
    """Yield a transport that writes in a folder, and close it."""
    transport = FileTransport(FileRules(str(folder), size, time, gzip))
    try:
        yield transport
    finally:
        await transport.close()


async def put(transport: FileTransport, *lines: bytes) -> list[Response]:
    """Write lines at once, and return what each got."""
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[Response | TransportError]] = [loop.create_future() for _ in lines]
    for line, end in zip(lines, ends, strict=True):
        transport.post(Request(method="POST", url="file:///", body=line), end.set_result)
    async with asyncio.timeout(PATIENCE):
        found = await asyncio.gather(*ends)
    return [one for one in found if isinstance(one, Response)]


def files(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by their endings, in order, without the lock."""
    return {
        f"{number}{''.join(path.suffixes)}": path.read_bytes()
        for number, path in enumerate(sorted(folder.glob("events-*")))
    }


def modes(folder: Path) -> set[int]:
    """Return the permissions of the files in a folder."""
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def tear(folder: Path) -> None:
    """Leave the beginning of a line in the file that is not closed."""
    (left,) = folder.glob("*.part")
    with left.open("ab") as file:
        file.write(b'{"n": 0, "text": "' + b"y" * 100_000)


async def test_a_group_of_lines_is_on_the_disk_before_it_is_delivered(tmp_path: Path) -> None:
    """Lines are answered when they are in the file, which is private and open until it is full."""
    folder = tmp_path / "a" / "b"
    async with writing(folder, size=12) as transport:
        assert await put(transport, b"1\n", b"2\n", b"3\n") == [Response(200)] * 3
        assert files(folder) == {"0.ndjson.part": b"1\n2\n3\n"}
        assert modes(folder) == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        await put(transport, b"4444\n", b"5\n")
        assert files(folder) == {"0.ndjson": b"1\n2\n3\n4444\n5\n"}
        await put(transport, b"6\n")
    assert list(files(folder).values()) == [b"1\n2\n3\n4444\n5\n", b"6\n"]
    assert all(name.endswith(".ndjson") for name in files(folder))


async def test_a_file_is_closed_at_its_time_and_compressed(tmp_path: Path) -> None:
    """A file is closed although nothing more comes; gzip replaces it when it is complete."""
    async with writing(tmp_path, time=0.01, gzip=True) as transport:
        await put(transport, b"1\n")
        async with asyncio.timeout(PATIENCE):
            while list(files(tmp_path)) != ["0.ndjson.gz"]:  # noqa: ASYNC110 - a thread makes it
                await asyncio.sleep(0.005)
        (found,) = files(tmp_path).values()
        assert gzip.decompress(found) == b"1\n"
        assert modes(tmp_path) == {0o600}


async def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    """A second writer is told to try again, and may write when the first is closed."""
    async with writing(tmp_path) as second:
        async with writing(tmp_path) as first:
            await put(first, b"1\n")
            (refused,) = await put(second, b"2\n")
            assert (refused.status, b"another destination" in refused.body) == (503, True)
        assert await put(second, b"2\n") == [Response(200)]
    assert list(files(tmp_path).values()) == [b"1\n", b"2\n"]


@pytest.mark.parametrize("moved", [False, True])
async def test_a_file_that_loses_its_name_is_no_delivery(tmp_path: Path, *, moved: bool) -> None:
    """If the folder goes while a file is open, lines are sent again into a new, locked folder."""
    folder = tmp_path / "a"
    async with writing(folder) as transport, writing(folder) as second:
        await put(transport, b"1\n")
        if moved:
            folder.rename(tmp_path / "b")
        else:
            shutil.rmtree(folder)
        (answer,) = await put(transport, b"2\n")
        assert (answer.status, b"moved or deleted" in answer.body) == (503, True)
        assert await put(transport, b"2\n") == [Response(200)]
        assert files(folder) == {"0.ndjson.part": b"2\n"}
        (refused,) = await put(second, b"3\n")
        assert (refused.status, b"another destination" in refused.body) == (503, True)
        if moved:
            assert files(tmp_path / "b") == {"0.ndjson.part": b"1\n"}


def test_check_warns_of_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that cannot be made now is a warning; one that does not exist yet is none."""
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.format(""))
    found = [CliRunner().invoke(main, ["check", "-c", str(path), "--json"])]
    (tmp_path / "archive").write_text("")
    found.append(CliRunner().invoke(main, ["check", "-c", str(path), "--json"]))
    assert [one.exit_code for one in found] == [0, 0]
    fine, warned = (json.loads(one.stdout)["warnings"] for one in found)
    assert not any("archive" in one for one in fine)
    assert any(f"path: {tmp_path}/archive is not a folder" in one for one in warned)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond *size*."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


async def test_a_full_disk_delays_events(tmp_path: Path) -> None:
    """Lines that do not fit are sent again later, and leave nothing of themselves in the file."""
    output = FileOutput(FileSettings(path=str(tmp_path)))
    async with writing(tmp_path) as transport:
        await put(transport, b"1" * 60 + b"\n")
        with full_disk(100):
            (answer,) = await put(transport, b"2" * 60 + b"\n")
        assert answer.status == 507
        assert isinstance(output.verdict(answer), RetryLater)
        assert list(files(tmp_path).values()) == [b"1" * 60 + b"\n"]
        await put(transport, b"3\n")
    assert list(files(tmp_path).values()) == [b"1" * 60 + b"\n3\n"]


WRITER = """
import asyncio, sys
from gateway.delivery.file_transport import FileTransport
from gateway.http import Request
from gateway.plugin.file_rules import FileRules

async def run():
    files = FileTransport(FileRules(sys.argv[1], 50_000, 60.0, False))
    number = 0
    while True:
        done = asyncio.Event()
        for number in range(number + 1, number + 21):
            line = b'{"n": %d, "text": "%s"}\\n' % (number, b"x" * 100)
            files.post(Request(method="POST", url="file:///", body=line), lambda end: done.set())
        await done.wait()
        print(number, flush=True)
asyncio.run(run())
"""


async def test_a_kill_loses_no_line_that_was_delivered(tmp_path: Path) -> None:
    """After kill -9, and a line torn in its middle, the next start leaves whole lines only."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220 - a short test
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(40)]
        process.kill()
        said += process.stdout.read().split("\n")[:-1]
    told = max(int(one) for one in said)
    tear(tmp_path)
    async with writing(tmp_path) as transport:
        await put(transport, b'{"n": -1}\n')
    lines = [line for body in files(tmp_path).values() for line in body.splitlines()]
    numbers = [json.loads(line)["n"] for line in lines]
    assert numbers[:-1] == list(range(1, len(numbers)))
    assert len(numbers) > told
    assert len(files(tmp_path)) > 2
    assert all(name.endswith(".ndjson") for name in files(tmp_path))


CONFIG = """
[sources.site]
vendor = "segment"
keys = ["k-12345678"]
[destinations.archive]
vendor = "file"
path = "archive"
{}
[[routes]]
to = ["archive"]
"""


async def test_a_destination_writes_lines_beside_its_configuration(tmp_path: Path) -> None:
    """The path is relative to the configuration; a line is the event, or what ``body`` says."""
    path = tmp_path / "gateway.toml"
    body = '{ name = "=event.name", total = "=event.properties.total" }'
    path.write_text(CONFIG.format(f"body = {body}"))
    config = load(path, REGISTRY, {}).destinations["archive"]
    output = REGISTRY.outputs["file"](config.settings)
    event = Event(
        type="track", name="Order Completed", user_id="u1", properties=Properties(total=5)
    )
    request = output.render(event)
    assert isinstance(request, Request)
    assert request.url == f"file://{tmp_path}/archive"
    both = output.merge(request, request)
    assert both is not None
    assert {loss.path for loss in output.losses(event)} == {"user_id"}
    transport = make_authorized_transport(config, output)
    assert isinstance(transport, FileTransport)
    await put(transport, both.body)
    await transport.close()
    line = b'{"name":"Order Completed","total":5}\n'
    assert list(files(tmp_path / "archive").values()) == [line * 2]
    whole = FileOutput(FileSettings(path="/x")).render(event)
    assert isinstance(whole, Request)
    assert json.loads(whole.body)["properties"] == {"total": 5}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('url = "https://a.example"', "remove it"),
        ('rotate_bytes = "0kB"', "rotate_bytes"),
        ('compression = "zip"', "compression"),
        ('body = "=event.nam"', "column 8"),
        ("upload = {}", "bucket: missing"),
        ('upload = { bucket = "Shop" }', "] bucket: "),
        ('upload = { bucket = "shop", prefix = "/raw" }', "] prefix: is not a folder"),
        ('upload = { bucket = "shop", prefix = "a//b" }', "] prefix: is not a folder"),
        ('upload = { bucket = "shop", prefix = "a/../b" }', "] prefix: is not a folder"),
        ('upload = { bucket = "shop", prefix = "%y" }', "] prefix: is not a folder"),
        ('upload = { bucket = "shop", endpoint = "minio:9000" }', "scheme, host and port"),
        ('upload = { bucket = "shop", endpoint = "http://a/shop" }', "scheme, host and port"),
        ('upload = { bucket = "shop", endpoint = "http://u:p@a" }', "scheme, host and port"),
        ('upload = { bucket = "shop", access_key = "k" }', "access_key without secret_key"),
        ('upload = { bucket = "shop", secret_key = "k" }', "secret_key without access_key"),
        ('upload = { bucket = "shop", max_waiting = 0 }', "max_waiting"),
        ('cert = "c.pem"\nupload = { bucket = "shop" }', "cert: cannot be shown to the storage"),
    ],
)
def test_mistakes_about_files_are_found(text: str, problem: str, tmp_path: Path) -> None:
    """A wrong key of a file destination is an error before the start."""
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.format(text))
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load(path, REGISTRY, {})


def test_uploads_are_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library of uploads the problem says what to install; files need it not."""
    path = tmp_path / "gateway.toml"
    monkeypatch.setitem(sys.modules, "obstore", None)
    path.write_text(CONFIG.format(""))
    assert load(path, REGISTRY, {}).destinations["archive"].vendor == "file"
    path.write_text(CONFIG.format('upload = { bucket = "shop" }'))
    with pytest.raises(ConfigError, match=r"upload: needs the extra s3; run pip install 'cdp-g"):
        load(path, REGISTRY, {})


def test_the_storage_is_reached_as_the_environment_says(tmp_path: Path) -> None:
    """A proxy of the environment is for the storage; without an endpoint, that is Amazon's."""
    path = tmp_path / "gateway.toml"
    environ = {
        "HTTPS_PROXY": "http://p.example",
        "NO_PROXY": "minio.example",
        "SECRET": "s-1234567",
    }
    key = 'access_key = "k-1234567", secret_key = "${SECRET}"'
    found = []
    for endpoint in ("", 'endpoint = "https://minio.example", '):
        path.write_text(CONFIG.format(f'upload = {{ bucket = "shop", {endpoint}{key} }}'))
        found.append(load(path, REGISTRY, environ).destinations["archive"])
    assert found[0].settings.reached_url == "https://s3.us-east-1.amazonaws.com"
    assert [one.proxy is not None for one in found] == [True, False]
    assert {"k-1234567", "s-1234567"} <= set(found[0].secrets())
    assert "1234567" not in repr(found)
