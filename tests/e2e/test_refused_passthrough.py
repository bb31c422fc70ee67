"""A passed-through request that its vendor refuses is sent once more as the gateway writes it."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.e2e.configs import SETTINGS, base_config
from tests.e2e.running import Running, running

SHOP = "0d42fd8b713d0752776ca589cc0056"
BEARER = {"authorization": "Bearer api_chrts_of_the_client"}
LENIENT = [
    (
        "personaclick",
        "/push",
        {"event": "view", "did": "d1", "seance": "s1", "items": [{"id": "1"}]},
    ),
    (
        "chrts",
        "/customer/identify",
        {"uid": "u1", "traits": {"email": "a@b.co"}, "attributes": {"plan": "x"}},
    ),
    (
        "chrts",
        "/event/track",
        {
            "userId": "u1",
            "event": "Product Viewed",
            "type": "track",
            "properties": {"product_id": "1"},
        },
    ),
]


def config(folder: Path, vendor: str, more: str = "") -> Any:
    """Return a function that makes a configuration from *vendor* to itself."""

    def made(sandbox: str) -> str:
        return (
            base_config(folder) + f'[sources.shop]\nvendor = "{vendor}"\nkeys = "any"\n'
            f'[destinations.back]\nvendor = "{vendor}"\nurl = "{sandbox}/{vendor}"\n'
            f"{SETTINGS[vendor]}\n[[routes]]\nto = ['back']\n{more}"
        )

    return made


async def deliver(run: Running, vendor: str, path: str, body: dict[str, Any]) -> list[str]:
    """Post *body*; return the verdicts of the vendor's own server."""
    keyed = {"shop_id": SHOP, **body} if vendor == "personaclick" else body
    async with run.client.post(
        run.url + path,
        data=orjson.dumps(keyed),
        headers={**BEARER, "content-type": "application/json"},
    ) as answered:
        assert answered.status == 200, await answered.text()
    await run.watch.until(lambda w: len(w.settled) == 1)
    return [entry["verdict"] for entry in await run.journal(vendor)]


@pytest.mark.parametrize(("vendor", "path", "body"), LENIENT)
async def test_a_refused_request_is_rewritten(
    tmp_path: Path, vendor: str, path: str, body: dict[str, Any]
) -> None:
    """A passed-through request that its vendor refuses is rewritten by the gateway and accepted."""
    async with running(tmp_path, config(tmp_path, vendor)) as run:
        verdicts = await deliver(run, vendor, path, body)
        assert verdicts == ["refused", "accepted"]
        (settled,) = run.watch.settled
        assert type(settled[-1]).__name__ == "Delivered"


async def test_an_identical_request_is_not_sent_again(tmp_path: Path) -> None:
    """When the gateway would write the same request, the refusal is final at once."""
    async with running(tmp_path, config(tmp_path, "chrts")) as run:
        await run.fault(vendor="chrts", status=400, count=5)
        body = {"uid": "u1", "name": "signup", "properties": {"plan": "pro"}}
        await deliver(run, "chrts", "/event/track", body)
        assert len(await run.journal("chrts")) == 1
        (settled,) = run.watch.settled
        assert type(settled[-1]).__name__ == "Refused"
