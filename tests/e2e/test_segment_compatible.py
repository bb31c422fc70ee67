"""Segment's libraries in front of a vendor that accepts Segment's calls, such as chrts."""

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.configs import base_config, source
from tests.e2e.running import running

KEY = "api_chrts_of_the_client"
BASIC = "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()
OURS = "Basic " + base64.b64encode(b"api_chrts_ours:").decode()
CALL = {"type": "track", "userId": "u1", "event": "account-signup"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"authorization": BASIC}, {}),
        ({}, {"writeKey": KEY}),
        ({"authorization": f"Bearer {KEY}"}, {}),
        ({"authorization": "Bearer a-token"}, {"writeKey": KEY}),
    ],
    ids=["basic", "body", "bearer", "token-and-body"],
)
@pytest.mark.parametrize("path", ["/v1/track", "/v1/batch", "/v1/t"])
async def test_chrts_accepts_segments_calls_with_its_own_key(
    tmp_path: Path, headers: dict[str, str], body: dict[str, Any], path: str
) -> None:
    """A chrts key is accepted in each place of the write key; chrts gets the gateway's own key."""

    def config(sandbox: str) -> str:
        return (
            base_config(tmp_path)
            + source("segment", KEY, name="app")
            + f'[destinations.chrts]\nvendor = "segment"\nurl = "{sandbox}/segment"\n'
            'write_key = "api_chrts_ours"\ndialect = "compatible"\n'
            '[[routes]]\nto = ["chrts"]\n'
        )

    payload = {"batch": [CALL], **body} if path == "/v1/batch" else {**CALL, **body}
    async with running(tmp_path, config) as run:
        url = run.url + path
        async with run.client.post(url, json=payload, headers=headers) as answer:
            assert (answer.status, await answer.json()) == (200, {"success": True})
        stranger = {name: value.replace(KEY, "x") for name, value in body.items()}
        async with run.client.post(url, json={**payload, **stranger}) as answer:
            assert answer.status == 401
        await run.watch.until(lambda w: len(w.settled) == 1)
        (entry,) = await run.journal("segment")
    assert entry["verdict"] == "accepted"
    assert entry["path"] == ("/v1/track" if path == "/v1/t" else path)
    assert entry["headers"]["authorization"] == OURS
    assert entry["body"].get("writeKey") in (None, "api_chrts_ours")
    assert KEY not in str(entry)
