"""The client's address reaches a destination of the source's own vendor."""

from pathlib import Path

import orjson
import pytest

from tests.e2e.raw_http import Got, vendor
from tests.e2e.running import running

PAGE = {"origin": "https://shop.example", "content-type": "text/plain"}
THROUGH = {"x-forwarded-for": "203.0.113.7"}
EVENT = {"writeKey": "WK", "anonymousId": "a", "event": "Seen"}


async def arrived(
    folder: Path, more: str, path: str, body: object, headers: dict[str, str]
) -> list[Got]:
    """Return the requests that the vendor gets for one request to a gateway behind a proxy."""
    async with vendor() as upstream:
        config = (
            '[server]\nlisten = "127.0.0.1:0"\ntrusted_proxies = ["127.0.0.1/32"]\n'
            f'[spool]\npath = "{folder / "spool"}"\n'
            '[sources.site]\nvendor = "segment"\nkeys = ["WK"]\n'
            f'[destinations.same]\nvendor = "segment"\nurl = "{upstream.url}"\n'
            f'write_key = "OURS"\n{more}\n[[routes]]\nto = ["same"]\n'
        )
        async with running(folder, lambda _: config) as run:
            data = orjson.dumps(body)
            async with run.client.post(run.url + path, data=data, headers=headers) as answer:
                assert answer.status == 200
            await run.watch.until(lambda seen: len(seen.settled) == len(seen.accepted) > 0)
        return upstream.got


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/t", EVENT),
        ("/v1/track/", EVENT),
        ("//v1/b", {"writeKey": "WK", "batch": [{**EVENT, "type": "track"}] * 2}),
    ],
)
async def test_the_address_goes_in_a_header(tmp_path: Path, path: str, body: object) -> None:
    """A request is passed through to its own path, with the address in a header."""
    (got,) = await arrived(tmp_path, "", path, body, {**PAGE, **THROUGH})
    assert got.line == f"POST {path.replace('//', '/').rstrip('/')} HTTP/1.1"
    assert got.header("x-forwarded-for") == "203.0.113.7"
    assert orjson.loads(got.body) == orjson.loads(orjson.dumps(body).replace(b"WK", b"OURS"))


async def test_the_address_goes_in_a_header_of_another_name(tmp_path: Path) -> None:
    """`client_ip` names the header that carries the address."""
    more = 'client_ip = "X-Real-IP"'
    (got,) = await arrived(tmp_path, more, "/v1/track", EVENT, {**PAGE, **THROUGH})
    assert got.header("x-real-ip") == "203.0.113.7"
    assert "x-forwarded-for" not in got.names


async def test_the_address_goes_in_the_field(tmp_path: Path) -> None:
    """With `field` the gateway writes the request itself, with the address in a field."""
    more = 'client_ip = "field"'
    (got,) = await arrived(tmp_path, more, "/v1/track", EVENT, {**PAGE, **THROUGH})
    assert "x-forwarded-for" not in got.names
    assert orjson.loads(got.body)["context"]["ip"] == "203.0.113.7"


@pytest.mark.parametrize(
    ("more", "body", "headers"),
    [
        ('client_ip = ""', EVENT, {**PAGE, **THROUGH}),
        ("", {**EVENT, "context": {"ip": "0.0.0.0"}}, {**PAGE, **THROUGH}),  # noqa: S104 - says none
        ("", EVENT, {**THROUGH, "content-type": "application/json"}),
    ],
    ids=["off", "says-none", "backend"],
)
async def test_the_address_is_not_sent(
    tmp_path: Path, more: str, body: object, headers: dict[str, str]
) -> None:
    """No address is sent when `client_ip` is empty, the payload says none, or a backend sends."""
    (got,) = await arrived(tmp_path, more, "/v1/track", body, headers)
    assert "x-forwarded-for" not in got.names
    assert b"203.0.113.7" not in got.body
