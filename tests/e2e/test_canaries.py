"""No output of the gateway contains a credential: canaries in every place for one."""

import asyncio
import base64
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from multidict import CIMultiDict

from gateway.http import Request
from gateway.plugin.registry import load_plugins
from gateway.plugin.vendor import Input
from tests.e2e.canaries import MARK, STATUS, check_hidden, command_output, echo
from tests.e2e.process import GatewayProcess, gateway_process
from tests.e2e.running import PATIENCE, serving
from tests.gateway.connect_proxy import connect_proxy

QUOTED = f"who is {MARK}-collector"
"""The collector's first response."""
SETTLING = ("ok", "refuse")
"""Destinations that soon settle every event; the others pause."""
ENDED = re.compile(
    r'cdp_gateway_deliveries_total\{destination="([^"]+)",'
    r'outcome="(?:delivered|declined|dead_letter)"\} (\S+)'
)
SETTINGS = {
    "chrts": ("api_key",),
    "personaclick": ("shop_id", "shop_secret"),
    "tracardi": ("source_id",),
    "quartic": ("api_key", "customer"),
    "growlytics": ("api_key",),
    "segment": ("write_key",),
}


def egress(folder: Path, proxy: str, kind: str) -> str:
    """Return the keys of a destination that say how it is reached, with canaries.

    The vendor repeats the headers. The proxy refuses one kind of destinations.
    """
    (folder / "team").write_text(f"{MARK}-team")
    (folder / "sign").write_text(f"Bearer {MARK}-sign")
    password = "wrong" if kind == "locked" else "proxy"
    return (
        f'headers = {{ x-team = "file:{folder}/team", x-sign = "file:{folder}/sign", '
        f'x-api-key = "{MARK}-added" }}\nproxy = "http://{MARK}-gate:{MARK}-{password}@{proxy}"\n'
    )


def configured(folder: Path, vendor: str, proxy: str) -> tuple[str, int]:
    """Return a configuration with canaries for credentials, and how many destinations settle."""
    text = (
        f'[server]\nlisten = "127.0.0.1:0"\nmetrics = true\n[spool]\npath = "{folder}/spool"\n'
        "[log]\nsuccess_rate_limit = 100000\n[trace]\nsuccess_rate_limit = 100000\n"
        f'otlp_url = "{vendor}/v1/traces"\n'
        f'otlp_headers = {{ authorization = "Bearer {MARK}-collector" }}\n'
    )
    host = vendor.removeprefix("http://")
    names = []
    for name, settings in SETTINGS.items():
        text += f'[sources.{name}]\nvendor = "{name}"\nkeys = ["other", "{MARK}-in-{name}"]\n'
        text += f'[sources.any-{name}]\nvendor = "{name}"\nkeys = "any"\nmount = "/any"\n'
        held = "".join(f'{key} = "{MARK}-{key}-{name}"\n' for key in settings if key != "customer")
        held += 'customer = "account"\n' if "customer" in settings else ""
        for kind in STATUS:
            names.append(f"{kind}-{name}")
            more = "max_attempts = 1\n" if kind == "later" else ""
            user = f"{MARK}-user:{MARK}-pass@" if kind == "refuse" and name == "growlytics" else ""
            text += f'[destinations.{names[-1]}]\nvendor = "{name}"\n{held}{more}'
            text += f'url = "http://{user}{host}/{kind}"\n'
            text += egress(folder, proxy, kind) if name in {"chrts", "segment"} else ""
    names.append("ok-archive")
    text += f'[destinations.{names[-1]}]\nvendor = "file"\npath = "{folder}/archive"\n'
    text += f'rotate_bytes = 1\n[destinations.{names[-1]}.upload]\nbucket = "locked"\n'
    text += f'endpoint = "{vendor}"\naccess_key = "{MARK}-id"\nsecret_key = "{MARK}-secret"\n'
    text += f"[[routes]]\nto = {orjson.dumps(names).decode()}\n"
    text += '[[routes]]\nname = "hashed"\nto = ["ok-chrts"]\nadditional = true\n'
    text += f'steps = [{{ hash = ["user_id"], key = "{MARK}-hash" }}]\n'
    return text, len([name for name in names if name.startswith(SETTLING)]) + 1


def calls(reads: Input, key: str) -> Iterator[Request]:
    """Yield requests of a vendor's client: with *key*, with other keys beside it, and malformed."""
    example = reads.example
    payload = orjson.loads(example.body)
    old = reads.credential(example, payload) or ""
    headers = {name: value.replace(old, key) for name, value in example.headers.items()}
    body = example.body.replace(old.encode(), key.encode())
    strange = CIMultiDict({"cookie": f"session={MARK}-cookie", "x-api-key": f"{MARK}-header"})
    strange.update({"authorization": f"Bearer {MARK}-bearer", "content-type": "application/json"})
    strange.update(headers)
    changed = orjson.loads(body)
    changed["shop_secret"] = changed["apiKey"] = f"{MARK}-beside"
    for url in (example.url, f"{example.url}?api_key={MARK}-query&shop_secret={MARK}-q2"):
        for said in (body, orjson.dumps(changed), b"{" + key.encode(), body[:-1]):
            yield Request(method=example.method, url=url, headers=strange, body=said)
    basic = CIMultiDict(strange)
    basic["authorization"] = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
    yield Request(method="POST", url=example.url, headers=basic, body=body)
    yield Request(method="GET", url=f"/search?shop_id={key}&writeKey={key}", headers=strange)


async def send(client: aiohttp.ClientSession, url: str) -> Iterator[bytes]:
    """Send all requests; return every response."""
    answers = []
    for name, cls in load_plugins().inputs.items():
        for mount, key in (("", f"{MARK}-in-{name}"), ("", f"{MARK}-bad"), ("/any", f"{MARK}-any")):
            for call in calls(cls(), key):
                async with client.request(
                    call.method, url + mount + call.url, data=call.body, headers=call.headers
                ) as answer:
                    answers.append(f"{dict(answer.headers)}".encode() + await answer.read())
    for page in ("/metrics", "/healthz", "/readyz"):
        async with client.get(url + page) as answer:
            answers.append(await answer.read())
    return iter(answers)


async def settled(running: GatewayProcess, client: aiohttp.ClientSession, wanted: int) -> None:
    """Wait until every accepted event has ended at each of the *wanted* destinations.

    The metrics count every end; lines about dead letters are limited.
    """
    async with asyncio.timeout(PATIENCE * 3):
        while True:
            async with client.get(f"{running.url}/metrics") as answer:
                found = ENDED.findall(await answer.text())
            ended = sum(float(count) for name, count in found if name.startswith(SETTLING))
            kept: list[Any] = [x for x in running.lines if x.get("outcome") == "accepted"]
            events = sum(line["events"] for line in kept)
            paused = {x["destination"] for x in running.lines if x["event"] == "circuit_open"}
            if ended >= events * wanted and len(paused) >= len(SETTINGS):
                return
            await asyncio.sleep(0.1)


async def test_no_credential_in_anything_that_the_gateway_emits(tmp_path: Path) -> None:
    """No response, metric, log line, trace, span or dead letter contains a canary."""
    spans: list[bytes] = []

    async def collect(request: web.Request) -> web.Response:
        spans.append(await request.read())
        return web.Response() if len(spans) > 1 else web.Response(status=400, reason=QUOTED)

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    app.router.add_route("*", "/{path:.*}", echo)
    config = tmp_path / "gateway.toml"
    async with (
        serving(app) as vendor, connect_proxy(f"{MARK}-gate:{MARK}-proxy") as proxy,
        aiohttp.ClientSession() as client,
    ):  # fmt: skip
        text, destinations = configured(tmp_path, vendor, proxy.address)
        config.write_text(text)
        async with gateway_process(config) as running:
            found = list(await send(client, running.url))
            await settled(running, client, destinations)
            requests = [str(x["request"]) for x in running.lines if x["event"] == "request"]
            for request in requests[:: len(requests) // 4]:
                found.append(await command_output(config, "trace", request))
                assert b"received" in found[-1], found[-1]
            found.append(await command_output(config, "tail", "--lines", "1000", "--limit", "500"))
            found.append(await command_output(config, "dead-letters", "list", "--limit", "1000"))
            found.append(await command_output(config, "dead-letters", "show", "1"))
            found.append(await command_output(config, "check"))
            assert f"through proxy {proxy.address}".encode() in b" ".join(found[-1].split())
            running.process.send_signal(signal.SIGTERM)
            assert await running.ended() == 0
    assert len(b"".join(spans)) > 100_000
    assert any("who is ***" in str(line.get("message")) for line in running.lines)
    assert any(f"through proxy {proxy.address}: " in str(line) for line in running.lines)
    assert any("'x-team': '***'" in str(line) for line in running.lines)
    assert any(one["event"] == "upload_failed" and "401" in str(one) for one in running.lines)
    found += spans
    found.append(orjson.dumps(running.lines))
    found.append((tmp_path / "spool/traces.db").read_bytes())
    assert len(found[-1]) > 100_000
    check_hidden(enumerate(found))
