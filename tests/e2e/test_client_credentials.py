"""`credentials = "client"`: each client's own credential is sent on, and no output shows it."""

import asyncio
import base64
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.plugin.registry import load_plugins
from gateway.testing.spool.contract import pending
from gateway.verdict import Delivered, Refused
from tests.e2e.configs import VENDORS, base_config
from tests.e2e.process import gateway_process
from tests.e2e.raw_http import Got, Vendor, body_of, vendor
from tests.e2e.running import Running, running

CANARY = "canary-7Qf3"
SECRET_OF = {
    "chrts": "api_chrts_3bxip2lXCUctEWLBFIEjgcu5fsrjRKNjCIgYiRPQXhMKo6GE1asMXX6sjZobcPU",
    "growlytics": "growlytics-example-key",
    "personaclick": "0d42fd8b713d0752776ca589cc0056",
    "quartic": "quartic-example-key",
    "segment": "YOUR_WRITE_KEY",
    "tracardi": "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387",
}
"""The credential in each vendor's example."""
URL_SETTING = '[destinations.own]\nvendor = "{}"\nurl = "{}"\ncredentials = "client"\n'


def example(of: str, secret: str = CANARY) -> tuple[str, dict[str, str], bytes]:
    """Return path, headers and body of a vendor's example with *secret* as its credential."""
    sent = load_plugins().inputs[of].example
    headers = {name: value.replace(SECRET_OF[of], secret) for name, value in sent.headers.items()}
    body = sent.body.replace(SECRET_OF[of].encode(), secret.encode())
    assert secret in f"{headers} {body!r}"
    return sent.url, {"content-type": "application/json", **headers}, body


def written(folder: Path, of: str, url: str, more: str = "") -> str:
    """Return a configuration of one source, and one destination with the clients' credentials."""
    return (
        base_config(folder) + f'[sources.shop]\nvendor = "{of}"\nkeys = "any"\n'
        f'{URL_SETTING.format(of, url)}[[routes]]\nto = ["own"]\n{more}\n'
    )


@asynccontextmanager
async def passing(folder: Path, of: str, more: str = "") -> AsyncIterator[tuple[Running, Vendor]]:
    """Run a vendor, and a gateway that sends the clients' credentials to it."""
    async with (
        vendor() as upstream,
        running(folder, lambda _: written(folder, of, upstream.url, more)) as run,
    ):
        yield run, upstream


async def post(run: Running, request: tuple[str, dict[str, str], bytes]) -> int:
    """Post *request*; return the status."""
    path, headers, body = request
    async with run.client.post(run.url + path, headers=headers, data=body) as answer:
        return answer.status


@pytest.mark.parametrize("of", VENDORS)
async def test_the_clients_request_is_passed_through(tmp_path: Path, of: str) -> None:
    """Without a credential of its own the gateway sends the client's request byte for byte."""
    request = example(of)
    async with passing(tmp_path, of) as (run, upstream):
        assert await post(run, request) < 300
        await run.watch.until(lambda w: bool(w.settled))
        (got,) = upstream.got
        assert got.line == f"POST {request[0]} HTTP/1.1"
        assert got.body == request[2]
        for name, value in request[1].items():
            assert got.header(name) == value
        assert all(isinstance(verdict, Delivered) for _, _, verdict in run.watch.settled)


@pytest.mark.parametrize("of", VENDORS)
async def test_a_credential_shows_nowhere(tmp_path: Path, of: str) -> None:
    """Neither the log nor the dead letter's output shows the key that the vendor repeats."""

    async def echo(got: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = f"no: {CANARY} {await body_of(got, reader)!r}".encode()
        writer.write(b"HTTP/1.1 422 No\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    async with vendor() as upstream:
        upstream.script = echo
        path = tmp_path / "gateway.toml"
        path.write_text(written(tmp_path, of, upstream.url))
        async with gateway_process(path) as gateway:
            request = example(of)
            async with (
                aiohttp.ClientSession() as client,
                client.post(
                    gateway.url + request[0], headers=request[1], data=request[2]
                ) as answer,
            ):
                assert answer.status < 300
            await gateway.saw("dead_letter")
            shown = ""
            async with asyncio.timeout(10):
                while "HTTP 422" not in shown:
                    for words in (["dead-letters", "list"], ["dead-letters", "show", "1"]):
                        result = await asyncio.to_thread(
                            CliRunner().invoke, main, [*words, "--config", str(path)]
                        )
                        shown += result.output
            assert CANARY not in shown
            assert "***" in shown
            log = orjson.dumps(gateway.lines).decode()
            assert CANARY not in log
        files = [file for file in (tmp_path / "spool").iterdir() if file.is_file()]
        assert files
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
        assert any(CANARY.encode() in file.read_bytes() for file in files)


async def test_one_clients_bad_credential_stops_nobody_else(tmp_path: Path) -> None:
    """A 401 makes a dead letter of the client's event, and does not pause the destination."""

    async def judge(got: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await body_of(got, reader)
        status = b"401 No" if "wrong" in (got.header("authorization") or "") else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")

    async with passing(tmp_path, "chrts") as (run, upstream):
        upstream.script = judge
        for secret in ("wrong", "wrong", "right"):
            assert await post(run, example("chrts", secret)) == 200
        await run.watch.until(lambda w: len(w.settled) == 3)
        assert [type(verdict) for _, _, verdict in run.watch.settled] == [
            Refused, Refused, Delivered,
        ]  # fmt: skip
        assert run.gateway.teams["own"].breaker.state == "closed"


@pytest.mark.parametrize("of", ["tracardi", "quartic", "chrts"])
async def test_a_part_of_a_request_has_the_clients_credential(tmp_path: Path, of: str) -> None:
    """A request that the gateway writes itself carries the client's credential."""
    route = 'types = ["page"]' if of == "tracardi" else ""
    async with passing(tmp_path, of, route) as (run, upstream):
        if of != "tracardi":
            run.gateway.teams["own"].sender.rendering.passthrough = False
        await post(run, example(of))
        await run.watch.until(lambda w: bool(w.settled))
        (got,) = upstream.got
        body: dict[str, Any] = orjson.loads(got.body)
        if of == "tracardi":
            assert body["source"] == {"id": CANARY}
            assert [event["type"] for event in body["events"]] == ["page-view"]
        elif of == "quartic":
            assert got.header("x-api-key") == CANARY
            assert body["customer"] == "quartic_account"
        else:
            assert got.header("authorization") == f"Bearer {CANARY}"
        assert got.body != example(of)[2]


async def test_a_batch_of_several_people_has_the_clients_credential(tmp_path: Path) -> None:
    """A batch that is split by user goes out in parts, each with the client's key."""
    body = {"batch": [{"type": "track", "event": "e", "userId": user} for user in ("a", "b")]}
    headers = {"authorization": f"Basic {base64.b64encode(f'{CANARY}:'.encode()).decode()}"}
    async with passing(tmp_path, "segment") as (run, upstream):
        assert await post(run, ("/v1/batch", headers, orjson.dumps(body))) == 200
        await run.watch.until(lambda w: len(w.settled) == 2)
        assert {got.header("authorization") for got in upstream.got} == {headers["authorization"]}
        assert {orjson.loads(got.body)["userId"] for got in upstream.got} == {"a", "b"}


async def test_credentials_are_stored_only_where_they_are_sent_on(tmp_path: Path) -> None:
    """Without a destination that sends it on, the spool stores no credential of a header."""
    text = written(tmp_path, "chrts", "http://127.0.0.1:9").replace(
        'credentials = "client"', 'api_key = "ours"'
    )
    async with running(tmp_path, lambda _: text) as run:
        await post(run, example("chrts"))
        (item,) = await pending(run.gateway.spool.shards[0], "own")
        assert "authorization" not in item.entry.request.headers
    files = [file for file in (tmp_path / "spool").iterdir() if file.is_file()]
    assert not any(CANARY.encode() in file.read_bytes() for file in files)


async def test_an_event_stored_without_a_credential_is_a_dead_letter(tmp_path: Path) -> None:
    """An event stored without the client's credential becomes a dead letter with that reason."""
    down = written(tmp_path, "chrts", "http://127.0.0.1:9")
    async with running(
        tmp_path, lambda _: down.replace('credentials = "client"', 'api_key = "o"')
    ) as run:
        await post(run, example("chrts"))
    async with passing(tmp_path, "chrts") as (run, upstream):
        await run.watch.until(lambda w: bool(w.settled))
        ((_, _, verdict),) = run.watch.settled
        assert verdict == Refused("the request was stored without the client's key")
        assert upstream.got == []
