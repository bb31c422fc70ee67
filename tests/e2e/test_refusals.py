"""A request that a vendor would refuse is refused in the vendor's words, and not stored."""

import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.e2e.configs import VENDORS, everything
from tests.e2e.running import Running, running

CREDENTIALS = {
    "chrts": {"authorization": "Bearer right"},
    "personaclick": {},
    "tracardi": {},
    "quartic": {"x-api-key": "right"},
    "growlytics": {"x-growlytics-key": "right"},
    "segment": {},
}
VALID: dict[str, tuple[str, dict[str, Any]]] = {
    "chrts": ("/event/track", {"uid": "u", "name": "n"}),
    "personaclick": ("/push", {
        "shop_id": "right", "did": "d", "seance": "s", "stream": "web", "event": "view",
        "items": [{"id": "1"}],
    }),
    "tracardi": ("/track", {
        "source": {"id": "right"}, "session": {"id": "s"}, "events": [{"type": "page-view"}],
    }),
    "quartic": ("/store/track/event", {
        "customer": "c", "eventType": "eventProductView", "timestamp": 1482840417,
        "cookie": "k", "productId": "101",
    }),
    "growlytics": ("/rest-api/event", {"customerId": "c", "name": "n", "attributes": []}),
    "segment": ("/v1/track", {"writeKey": "right", "userId": "u", "event": "n"}),
}  # fmt: skip
MALFORMED = {
    "chrts": 400, "personaclick": 400, "tracardi": 422, "quartic": 405, "growlytics": 422,
    "segment": 400,
}  # fmt: skip
FORBIDDEN = {
    "chrts": 401, "personaclick": 403, "tracardi": 401, "quartic": 401, "growlytics": 401,
    "segment": 401,
}  # fmt: skip
TOO_LARGE = {"segment": 400}
"""All other vendors use 413; Segment documents 400."""
BROKEN: dict[str, list[dict[str, Any]]] = {
    "chrts": [{"uid": None}, {"name": None}, {"uid": {"a": 1}}, {"name": 7}],
    "personaclick": [{"did": None}, {"event": "dance"}, {"items": None}, {"did": ["d"]}],
    "tracardi": [{"events": {}}, {"events": [{}]}, {"events": [{"type": 7}]}, {"session": "s"}],
    "quartic": [{"eventType": "dance"}, {"timestamp": None}, {"timestamp": "x"}, {"cookie": 7}],
    "growlytics": [{"customerId": None}, {"name": "x" * 60}, {"attributes": {}}, {"name": 7}],
    "segment": [{"userId": None}, {"userId": " "}, {"userId": {"a": 1}}, {"userId": True}],
}
"""Changes that make the valid body one that the vendor refuses; None removes the key."""


def says_no(vendor: str, body: bytes) -> bool:
    """Tell whether *body* has the shape of the vendor's errors."""
    said = orjson.loads(body)
    match vendor:
        case "chrts":
            return said["status"] is False and isinstance(said["message"], str)
        case "personaclick":
            return said["status"] == "error" and isinstance(said["message"], str)
        case "tracardi":
            return isinstance(said["detail"], str | list)
        case "quartic":
            return said["status"] == "ERROR" and bool(said["data"]["error_code"])
        case "segment":
            return said["success"] is False and bool(said["message"] and said["code"])
        case _:
            return bool(said.get("details")) or said.get("success") is False


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Running]:
    """Run a gateway whose sources accept one key each."""

    def config(sandbox: str) -> str:
        text = everything(tmp_path, sandbox).replace('keys = "any"', 'keys = ["right"]')
        return text.replace("[server]\n", '[server]\nmax_body = "64KiB"\n')

    async with running(tmp_path, config) as found:
        yield found
        assert found.gateway.spool.shards[0].position() == 0, "something was kept"
        assert await found.journal() == []


async def send(
    run: Running, vendor: str, data: bytes, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Post *data* to the vendor's endpoint with its credential."""
    all_headers = {"content-type": "application/json", **CREDENTIALS[vendor], **(headers or {})}
    url = run.url + VALID[vendor][0]
    async with run.client.post(url, data=data, headers=all_headers) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("vendor", VENDORS)
async def test_invalid_json_is_refused(run: Running, vendor: str) -> None:
    """Invalid JSON gets the vendor's status for a malformed body or for a missing key."""
    for body in (b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"a":' * 2000):
        status, said = await send(run, vendor, body)
        assert status in {MALFORMED[vendor], FORBIDDEN[vendor]}, said
        assert says_no(vendor, said)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_missing_and_mistyped_fields_are_refused(run: Running, vendor: str) -> None:
    """A required field that is missing or has the wrong type gets the vendor's refusal."""
    for change in BROKEN[vendor]:
        body = {k: v for k, v in {**VALID[vendor][1], **change}.items() if v is not None}
        status, said = await send(run, vendor, orjson.dumps(body))
        assert status == MALFORMED[vendor], (change, said)
        assert says_no(vendor, said)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_wrong_credential_is_refused(run: Running, vendor: str) -> None:
    """A wrong or missing key is refused, and the response does not repeat it."""
    path, valid = VALID[vendor]
    wrong = orjson.loads(orjson.dumps(valid).replace(b'"right"', b'"canary-4711"'))
    bad = {
        name: value.replace("right", "canary-4711") for name, value in CREDENTIALS[vendor].items()
    }
    for headers in (bad, {}):
        async with run.client.post(run.url + path, json=wrong, headers=headers) as answer:
            said = await answer.read()
            assert answer.status == FORBIDDEN[vendor], said
            assert says_no(vendor, said)
            assert b"canary" not in said


@pytest.mark.parametrize("vendor", VENDORS)
async def test_large_bodies_are_refused(run: Running, vendor: str) -> None:
    """A body over the limit is refused, as sent or inflated, with gzip and with deflate."""
    large = orjson.dumps({**VALID[vendor][1], "padding": "x" * 80_000})
    status, said = await send(run, vendor, large)
    assert status == TOO_LARGE.get(vendor, 413), said
    assert says_no(vendor, said)
    bomb = b" " * 50_000_000
    for coding, body in (("gzip", gzip.compress(bomb)), ("deflate", zlib.compress(bomb))):
        status, said = await send(run, vendor, body, {"content-encoding": coding})
        assert status == TOO_LARGE.get(vendor, 413), said
        assert says_no(vendor, said)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_invalid_gzip_is_refused(run: Running, vendor: str) -> None:
    """A body labelled gzip that is not gzip is refused as malformed."""
    status, said = await send(run, vendor, b"no gzip at all", {"content-encoding": "gzip"})
    assert status == MALFORMED[vendor], said
    assert says_no(vendor, said)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_wrong_method_is_refused(run: Running, vendor: str) -> None:
    """A documented path with another method gets a 405 in the vendor's format."""
    async with run.client.put(run.url + VALID[vendor][0], data=b"{}") as answer:
        assert answer.status == 405
        assert says_no(vendor, await answer.read())


async def test_an_unknown_path_lists_nothing(run: Running) -> None:
    """A path that belongs to no source gets a 404 that names no vendor, source or path."""
    async with run.client.post(f"{run.url}/v9/unknown", data=b"{}") as answer:
        assert answer.status == 404
        assert await answer.json() == {"error": "not found"}


async def test_an_unknown_path_of_a_vendor_is_the_vendors_own_404(run: Running) -> None:
    """An unknown path that begins as a vendor's paths do gets that vendor's 404."""
    async with run.client.post(f"{run.url}/v1/unknown", data=b"{}") as answer:
        assert answer.status == 404
        assert (await answer.json())["code"] == "not_found"
