"""A value that a sender writes under a credential's name is redacted at any depth."""

import asyncio
from pathlib import Path

import aiohttp
import orjson

from tests.e2e.process import gateway_process
from tests.e2e.raw_http import vendor
from tests.e2e.running import PATIENCE

MARK = "canary-nobody-configured"
SETUP = """
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[spool]
path = "{folder}/spool"
[sources.shop]
vendor = "segment"
keys = ["WK"]
[destinations.crm]
vendor = "chrts"
url = "{vendor}"
api_key = "key-of-crm"
[[routes]]
to = ["crm"]
"""
EVENT = {
    "userId": "u-1",
    "event": "Signed In",
    "writeKey": "WK",
    "properties": {
        "password": f"{MARK}-1",
        "auth": {"accessToken": f"{MARK}-2", "list": [{"session_token": f"{MARK}-3"}]},
        "headers": {"Authorization": f"Bearer {MARK}-4", "Cookie": f"sid={MARK}-5; b={MARK}-6"},
        "raw": orjson.dumps({"api_key": f"{MARK}-7"}).decode(),
        "address": f"https://shop.example/?token={MARK}-8&q=plain-query",
        "tokens": [f"{MARK}-9"],
        "secretary": "plain-secretary",
        "tokenised": "plain-tokenised",
    },
}
PLAIN = ("plain-query", "plain-secretary", "plain-tokenised")


async def test_traces_and_dead_letters_redact_by_name(tmp_path: Path) -> None:
    """No trace, request page, dead letter, reason or log shows the value."""
    found: dict[str, bytes] = {}
    async with vendor() as upstream, aiohttp.ClientSession() as client:
        said = orjson.dumps({"message": "no", "got": EVENT["properties"]})
        upstream.answer = b"HTTP/1.1 400 No\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said)
        config = tmp_path / "gateway.toml"
        config.write_text(SETUP.format(folder=tmp_path, vendor=upstream.url))
        async with gateway_process(config) as running:
            line = await running.saw("admin_listening")
            admin = f"http://{line['host']}:{line['port']}/api/v1"
            async with client.post(f"{running.url}/v1/track", json=EVENT) as answer:
                assert answer.status == 200
                request = answer.headers["x-gateway-request-id"]
            for path, holds in (
                ("dead-letters/1", "received"), ("dead-letters", "Signed In"),
                (f"trace?id={request}", "dead_letter"), (f"request?id={request}", "dead_letter"),
                ("traces?limit=10", "dead_letter"), ("destinations/crm", "crm"),
            ):  # fmt: skip
                async with asyncio.timeout(PATIENCE):
                    while holds.encode() not in found.get(path, b""):  # nothing signals it
                        await asyncio.sleep(0.02)
                        async with client.get(f"{admin}/{path}") as answer:
                            found[path] = await answer.read()
            found["log"] = orjson.dumps(running.lines)
        assert MARK.encode() in upstream.got[0].body, "the vendor gets what was sent"
    for name, shown in found.items():
        assert MARK.encode() not in shown, (name, shown)
    for plain in PLAIN:
        assert plain.encode() in found["dead-letters/1"], found["dead-letters/1"]
