"""The same vendor in and out: the original bytes, with only the key exchanged."""

import asyncio
import base64
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest

from gateway.plugin.registry import load_plugins
from gateway.testing import load_samples
from gateway.testing.samples import request_of
from tests.e2e.configs import SETTINGS, VENDORS, base_config, destination, everything, source
from tests.e2e.running import Running, running
from tests.e2e.test_matrix import SAMPLES, post

SPELLED = (
    b'{ "uid":"u-1",\n "name":"n", "properties":{"amount": 1.10, "big": 12345678901234567890123} }'
)
RUDDERSTACK = 'dialect = "rudderstack"'
CREDENTIALS = {"shop_id", "shop_secret", "customer", "writeKey"}
KEY = {"authorization": "Bearer api_chrts_of_the_client"}


async def test_the_body_is_passed_through(tmp_path: Path) -> None:
    """Path, query and body are the client's bytes; key and content type are the gateway's."""
    received = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        received.append((head, await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    vendor = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = vendor.sockets[0].getsockname()[1]

    def config(_: str) -> str:
        return (
            base_config(tmp_path)
            + source("chrts", name="shop")
            + f'[destinations.chrts]\nvendor = "chrts"\nurl = "http://127.0.0.1:{port}/prefix"\n'
            f"{SETTINGS['chrts']}\n[[routes]]\nto = ['chrts']\n"
        )

    async with vendor, running(tmp_path, config) as run:
        async with run.client.post(
            f"{run.url}/event/track?v=1", data=SPELLED,
            headers={**KEY, "content-type": "text/plain"},
        ) as answered:  # fmt: skip
            assert answered.status == 200
        await run.watch.until(lambda w: len(w.settled) == 1)
    head, body = received[0]
    assert body == SPELLED
    assert head.startswith(b"POST /prefix/event/track?v=1 HTTP/1.1\r\n")
    assert b"application/json" in head
    assert b"text/plain" not in head
    assert b"Bearer api_chrts_sandbox" in head
    assert b"of_the_client" not in head


@pytest.mark.parametrize(
    ("vendor", "more"), [*((vendor, "") for vendor in VENDORS), ("segment", RUDDERSTACK)]
)
async def test_the_vendor_gets_what_it_would_get_directly(
    tmp_path: Path, vendor: str, more: str
) -> None:
    """A vendor receives through the gateway what it would have received directly."""

    def config(sandbox: str) -> str:
        head, _, _ = everything(tmp_path, sandbox).partition("[destinations.")
        return f"{head}{destination(vendor, sandbox, more)}[[routes]]\nto = ['{vendor}']\n"

    samples = {
        n: s for n, s in load_samples(SAMPLES / vendor).items() if _forwarded(vendor, more, s)
    }
    async with running(tmp_path, config) as run:
        owed = 0
        for name, sample in samples.items():
            direct = await _directly(run, vendor, sample)
            await post(run, sample)
            owed += len(sample["events"])
            await run.watch.until(lambda w, owed=owed: len(w.settled) >= owed)  # type: ignore[misc]  # bound now
            journal = await run.journal(vendor)
            through = [entry for entry in journal if entry["index"] > direct["index"]]
            if direct["verdict"] == "refused":
                assert {entry["verdict"] for entry in through} <= {"accepted", "refused"}
                continue
            assert len(through) == 1, name
            for key in ("method", "path", "verdict"):
                assert through[0][key] == direct[key], name
            assert _asked(through[0]["query"]) == _asked(direct["query"]), name
            assert _anonymous(through[0]["body"]) == _anonymous(direct["body"]), name


async def _directly(run: Running, vendor: str, sample: dict[str, Any]) -> dict[str, Any]:
    """Post *sample* to the sandbox itself; return the journal's entry for it."""
    raw = sample["request"]
    body = raw.get("body", "")
    data = body.encode() if isinstance(body, str) else orjson.dumps(body)
    headers = {"content-type": "application/json", **raw.get("headers", {})}
    url = f"{run.sandbox}/{vendor}{raw['url']}"
    async with run.client.request(raw["method"], url, data=data, headers=headers):
        pass
    return (await run.journal(vendor))[-1]


def _forwarded(vendor: str, more: str, sample: dict[str, Any]) -> bool:
    """Tell whether the request of *sample* is passed through.

    It is if all its events are of one user, and the server has its path.
    """
    output = load_plugins().outputs[vendor]
    url = {"url": "http://127.0.0.1:1"}
    settings = output.Config.model_validate(url | tomllib.loads(f"{SETTINGS[vendor]}\n{more}"))
    users = {event.get("user_id") or event.get("anonymous_id") for event in sample["events"]}
    return len(users) == 1 and output(settings).forward(request_of(sample)) is not None


def _anonymous(body: Any) -> Any:
    """Return *body* without the credentials that the gateway exchanges."""
    if not isinstance(body, dict):
        return body
    kept = {k: v for k, v in body.items() if k not in CREDENTIALS}
    if isinstance(kept.get("source"), dict):
        kept["source"] = {k: v for k, v in kept["source"].items() if k != "id"}
    if isinstance(kept.get("batch"), list):
        kept["batch"] = [_anonymous(member) for member in kept["batch"]]
    return kept


def _asked(query: str) -> dict[str, Any]:
    """Return the parameters of *query*, without the credentials that the gateway exchanges."""
    asked: dict[str, Any] = dict(parse_qsl(query))
    if "data" in asked:
        data = asked["data"]
        padded = data + "=" * (-len(data) % 4)
        asked["data"] = orjson.loads(data if data[0] == "{" else base64.urlsafe_b64decode(padded))
    return {name: _anonymous(value) for name, value in asked.items() if name not in CREDENTIALS}
