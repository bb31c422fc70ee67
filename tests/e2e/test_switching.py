"""A running shop is switched over: vendors receive the same as without the gateway."""

import base64
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson
import pytest

from gateway.testing import load_samples
from tests.e2e.configs import SETTINGS, VENDORS, base_config, destination
from tests.e2e.running import Running, running

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests/vendors"
PAGE = ROOT / "docs/switching.md"
HOURS = 2
"""How often each request of a vendor's clients occurs in a day."""


class Call(NamedTuple):
    """A request as a client sends it."""

    vendor: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    events: int
    mount: str = ""
    """The mount of its source."""


RUDDER = "/rudder"
RUDDERS = r"/(beacon|pixel)/v1/|/v1/import"
"""Paths that RudderStack has and Segment does not have."""
READS = (
    Call("quartic", "GET", "/store/recommendation?customer=quartic_account&placementId=home"
         "&cookie=c-1", {}, b"", 0),
    Call("quartic", "GET", "/store/contact", {"x-api-key": "client-key"},
         b'{"email": "anna@example.com"}', 0),
    Call("personaclick", "GET", "/init?shop_id=0d42fd8b713d0752776ca589cc0056", {}, b"", 0),
    Call("personaclick", "GET", "/search?shop_id=0d42fd8b713d0752776ca589cc0056&q=boots", {},
         b"", 0),
)  # fmt: skip
"""Calls that are not events; they are relayed."""


def day(dice: random.Random) -> list[Call]:
    """Return the requests of all vendors' clients in a day, in random order."""
    calls = [*READS]
    for vendor in VENDORS:
        for sample in load_samples(SAMPLES / vendor).values():
            raw = sample["request"]
            body = raw.get("body", "")
            data = body.encode() if isinstance(body, str) else orjson.dumps(body)
            headers = {"content-type": "application/json", **raw.get("headers", {})}
            headers.setdefault("user-agent", f"{vendor}-client/1.0")
            count = len(sample["events"])
            mount = RUDDER if re.match(RUDDERS, raw["url"]) else ""
            calls.append(Call(vendor, raw["method"], raw["url"], headers, data, count, mount))
    calls *= HOURS
    dice.shuffle(calls)
    return calls


def config(folder: Path, sandbox: str, respond: str) -> str:
    """Return a configuration in which each vendor's clients go to that vendor."""
    tables = "".join(
        f'[sources.{v}]\nvendor = "{v}"\nkeys = "any"\nurl = "{sandbox}/{v}"\n'
        f'respond = "{respond}"\nrespond_timeout = "10s"\n{destination(v, sandbox)}'
        f'[[routes]]\nfrom = ["{v}"]\nto = ["{v}"]\n'
        for v in VENDORS
    )
    tables += (
        f'[sources.rudder]\nvendor = "segment"\nkeys = "any"\nmount = "{RUDDER}"\n'
        f'respond = "{respond}"\n[destinations.rudder]\nvendor = "segment"\n'
        f'url = "{sandbox}/segment"\n{SETTINGS["segment"]}\ndialect = "rudderstack"\n'
        '[[routes]]\nfrom = ["rudder"]\nto = ["rudder"]\n'
    )
    return base_config(folder) + tables


async def send(run: Running, call: Call, base: str) -> tuple[int, str]:
    """Send *call* to the server at *base*; return the response's status and content type."""
    async with run.client.request(
        call.method, f"{base}{call.url}", data=call.body, headers=call.headers
    ) as answer:
        await answer.read()
        return answer.status, answer.content_type


def declared(title: str) -> Iterator[tuple[str, str]]:
    """Yield a vendor, or "all", with each field that may differ by *title* in docs/switching.md."""
    table = PAGE.read_text().partition(f"## {title}")[2].partition("\n## ")[0]
    for names, what in re.findall(r"^\| ([a-z, ]+) \| (.*?) \|", table, re.MULTILINE):
        for vendor in names.split(", "):
            for field in re.findall(r"`([^`]+)`", what):
                yield vendor, field


def without(fields: set[str], entry: Mapping[str, Any]) -> str:
    """Return a journalled request without *fields*, as text that can be compared."""
    headers = {k: v for k, v in entry["headers"].items() if k not in fields}
    body = _pruned(entry["body"], {f.removeprefix("body ") for f in fields if " " in f})
    pairs = entry["query"].split("&")
    query = [_plain(p) for p in pairs if f"query {p.partition('=')[0]}" not in fields]
    compared = [entry["method"], entry["path"], query, headers, body]
    return orjson.dumps(compared, option=orjson.OPT_SORT_KEYS).decode()


def _plain(pair: str) -> str:
    """Return a part of a query; a pixel's data is decoded, without the key."""
    name, _, packed = pair.partition("=")
    if name != "data":
        return pair
    text = unquote(packed)
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError:
        data = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4)))
    return orjson.dumps(_pruned(data, {"writeKey"})).decode()


def _pruned(body: Any, paths: set[str]) -> Any:
    if isinstance(body, dict):
        return {
            key: _pruned(value, {p.partition(".")[2] for p in paths if p.startswith(f"{key}.")})
            for key, value in body.items()
            if key not in paths
        }
    return [_pruned(item, paths) for item in body] if isinstance(body, list) else body


def calls_in(entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the calls in a request to Segment: the user's ids, the event and the type of each."""
    body = entry["body"]
    calls = body.get("batch", [body]) if isinstance(body, dict) else []
    kind = entry["path"].rpartition("/")[2]
    keys = ("userId", "anonymousId", "event")
    return [(*(str(c.get(key) or "") for key in keys), c.get("type", kind)) for c in calls]


def of_several(entry: Mapping[str, Any]) -> bool:
    """Tell whether a request is about several users."""
    return len({call[:2] for call in calls_in(entry)}) > 1


@pytest.mark.parametrize("respond", ["accept", "upstream"])
async def test_a_shop_switches_over(tmp_path: Path, respond: str) -> None:
    """A day's calls reach each vendor through the gateway as they do directly."""
    calls = day(random.Random(7))  # noqa: S311 - no secret, and it must be repeatable
    async with running(tmp_path, lambda url: config(tmp_path, url, respond)) as run:
        direct = [await send(run, call, f"{run.sandbox}/{call.vendor}") for call in calls]
        before = await run.journal()
        through = [await send(run, call, run.url + call.mount) for call in calls]
        owed = sum(call.events for call in calls)
        await run.watch.until(lambda w: len(w.settled) >= owed)
        after = (await run.journal())[len(before) :]
    answers = set(declared("What a client sees differently")) if respond == "accept" else set()
    for call, straight, roundabout in zip(calls, direct, through, strict=True):
        if straight[0] < 400:
            like = (call.vendor, f"{call.method} {call.url}") in answers
            assert roundabout[0] < 300 if like else roundabout == straight, call
    may = set(declared("What a vendor sees differently"))
    for vendor in VENDORS:
        fields = {field for whose, field in may if whose in {"all", vendor}}
        sent = [entry for entry in before if _took(entry, vendor)]
        got = [entry for entry in after if _took(entry, vendor)]
        whole = Counter(without(fields, entry) for entry in sent if not of_several(entry))
        missed = whole - Counter(without(fields, entry) for entry in got)
        assert not missed, next(iter(missed))
        parts = Counter(call for entry in sent if of_several(entry) for call in calls_in(entry))
        missing = parts - Counter(call for entry in got for call in calls_in(entry))
        assert not missing, next(iter(missing))


def _took(entry: Mapping[str, Any], vendor: str) -> bool:
    return bool(entry["vendor"] == vendor and entry["verdict"] == "accepted")
