"""Every vendor in, every vendor out, over real sockets."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.testing import load_samples
from gateway.verdict import Declined, Delivered
from tests.e2e.configs import VENDORS, everything
from tests.e2e.running import Running, running

SAMPLES = Path(__file__).parent.parent / "vendors"


async def post(run: Running, sample: dict[str, Any]) -> None:
    """Post *sample* as its client does; the response must be the vendor's documented one."""
    raw = sample["request"]
    body = raw.get("body", "")
    data = body.encode() if isinstance(body, str) else orjson.dumps(body)
    headers = {"content-type": "application/json", **raw.get("headers", {})}
    async with run.client.request(
        raw["method"], run.url + raw["url"], data=data, headers=headers
    ) as answer:
        assert answer.status == sample["answer"]["status"], await answer.text()
        said, wanted = await answer.read(), sample["answer"].get("body")
        if isinstance(wanted, dict):
            assert orjson.loads(said).keys() == wanted.keys()


async def test_every_sample_reaches_every_vendor(
    tmp_path: Path, record_property: pytest.FixtureRequest
) -> None:
    """Every sample gets its documented response; its events reach all vendors or are declined."""
    samples = {vendor: load_samples(SAMPLES / vendor) for vendor in VENDORS}
    owed = sum(len(s["events"]) for found in samples.values() for s in found.values()) * len(
        VENDORS
    )
    async with running(
        tmp_path, lambda url: everything(tmp_path, url, "passthrough = false")
    ) as run:
        for found in samples.values():
            for sample in found.values():
                await post(run, sample)
        await run.watch.until(lambda w: len(w.settled) >= owed)
        journal = await run.journal()
    refused = [entry for entry in journal if entry["verdict"] != "accepted"]
    assert not refused, refused[0]
    delivered: Counter[tuple[str, str]] = Counter()
    declined: Counter[tuple[str, str]] = Counter()
    for event, destination, verdict in run.watch.settled:
        assert isinstance(verdict, Delivered | Declined), (event, destination, verdict)
        counter = delivered if isinstance(verdict, Delivered) else declined
        counter[event.origin, destination] += 1
        if isinstance(verdict, Declined):
            assert verdict.reason
            assert event.origin != destination, (event, verdict)
    assert len(run.watch.settled) == owed
    assert sum(delivered.values()) == sum(len(_events(entry)) for entry in journal) - _further(
        journal
    )
    assert all(delivered[vendor, vendor] for vendor in VENDORS)
    record_property("table", _table(delivered, declined))  # type: ignore[operator]  # a callable fixture


def _events(entry: dict[str, Any]) -> list[Any]:
    """Return the events in one journalled request; Tracardi's and Segment's may have several."""
    body = entry["body"]
    found: list[Any] = body.get("events") or body.get("batch") or [body]
    return found


def _further(journal: list[dict[str, Any]]) -> int:
    """Return how many journalled events are only a profile's consent, at two vendors."""
    profiles = {e["body"].get("email") for e in journal if e["path"] == "/store/collectprofile"}
    contacts = [e for e in journal if e["path"] == "/store/contact" and "cookie" in e["body"]]
    beside = sum(contact["body"]["email"] in profiles for contact in contacts)
    for entry in journal:
        types = [event["type"] for event in entry["body"].get("events") or ()]
        pairs = pairwise(types)
        beside += sum(pair == ("profile-update", "consent-update") for pair in pairs)
    return beside


def _table(delivered: Counter[tuple[str, str]], declined: Counter[tuple[str, str]]) -> str:
    lines = [
        "delivered + declined, per event of the samples; rows in, columns out",
        "",
        f"{'':14}" + "".join(f"{vendor:>14}" for vendor in VENDORS),
    ]
    for origin in VENDORS:
        cells = (f"{delivered[origin, to]} + {declined[origin, to]}" for to in VENDORS)
        lines.append(f"{origin:14}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)
