"""Pages that call the gateway: preflights, beacons, the client's address, the id cookie."""

import uuid
from collections.abc import AsyncIterator
from functools import partial
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.config.loader.load import load
from gateway.event import Event
from gateway.ingest.cors import TRACING
from gateway.spool import ALL_DEAD_LETTERS
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.testing.spool.contract import eventually
from gateway.verdict import Delivered
from tests.e2e.configs import SETTINGS, VENDORS, destination, everything
from tests.e2e.running import Running, running
from tests.e2e.test_refusals import CREDENTIALS, VALID

SHOP = "https://shop.example"
EVIL = "https://evil.example"
PAGE = {"origin": SHOP, "user-agent": "Mozilla/5.0 (X11)"}
BROWSER_HEADERS = {
    "chrts": "authorization, content-type",
    "personaclick": "content-type",
    "tracardi": "content-type, x-context, x-timestamp",
    "quartic": "accept-version, content-type, x-api-key",
    "growlytics": "content-type, x-growlytics-key",
    "segment": (
        "anonymousid, authorization, content-type, rsa-recovered, rsa-retry-attempt,"
        " rsa-retry-reason, rsa-since-first-attempt, rsa-since-last-attempt, sentat, x-retry-count"
    ),
}
PROXY = 'trusted_proxies = ["127.0.0.0/8", "10.0.0.0/8"]\n'
THROUGH = {"x-forwarded-for": "6.6.6.6, 203.0.113.7, 10.0.0.2", "x-forwarded-proto": "https"}


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Running]:
    """Run a gateway whose sources name an origin."""

    def config(sandbox: str) -> str:
        keys = f'keys = ["right"]\norigins = ["{SHOP}"]'
        return everything(tmp_path, sandbox).replace('keys = "any"', keys)

    async with running(tmp_path, config) as found:
        yield found


def asking(origin: str, method: str = "POST") -> dict[str, str]:
    """Return the headers of a preflight."""
    return {"origin": origin, "access-control-request-method": method}


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_page_sends_after_a_preflight(run: Running, vendor: str) -> None:
    """A preflight needs no credential, and the page can read the response to its event."""
    path, body = VALID[vendor]
    async with run.client.options(run.url + path, headers=asking(SHOP)) as leave:
        assert leave.status == 204
        assert leave.headers["access-control-allow-origin"] == SHOP
        assert leave.headers["access-control-allow-credentials"] == "true"
        assert leave.headers["access-control-allow-methods"] == "POST"
        allowed = set(leave.headers["access-control-allow-headers"].split(", "))
        assert allowed == {*BROWSER_HEADERS[vendor].split(", "), *TRACING}
    headers = {"origin": SHOP, **CREDENTIALS[vendor]}
    async with run.client.post(run.url + path, json=body, headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert "x-gateway-request-id" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_page_can_read_why_it_was_refused(run: Running, vendor: str) -> None:
    """A refusal of any kind has the CORS headers, so that the page can read it."""
    path, _ = VALID[vendor]
    for method, below, credentials in (
        ("POST", path, {}),
        ("POST", path, CREDENTIALS[vendor]),
        ("PUT", path, CREDENTIALS[vendor]),
    ):
        headers = {"origin": SHOP, **credentials}
        async with run.client.request(
            method, run.url + below, data=b"{", headers=headers
        ) as answer:
            assert answer.status >= 400
            assert answer.headers["access-control-allow-origin"] == SHOP


@pytest.mark.parametrize("vendor", VENDORS)
async def test_pages_of_other_origins_read_nothing(run: Running, vendor: str) -> None:
    """A preflight from another origin is refused, and its page can read no response."""
    path, body = VALID[vendor]
    async with run.client.options(run.url + path, headers=asking(EVIL)) as leave:
        assert leave.status == 403
        assert "access-control-allow-origin" not in leave.headers
        assert leave.headers["vary"] == "origin"
    headers = {"origin": EVIL, **CREDENTIALS[vendor]}
    async with run.client.post(run.url + path, json=body, headers=headers) as answer:
        assert not any(name.lower().startswith("access-control") for name in answer.headers)


async def test_without_origins_cors_is_as_at_the_vendor(tmp_path: Path) -> None:
    """Without `origins` a vendor with browser clients allows every page, without credentials."""
    async with running(tmp_path, lambda url: everything(tmp_path, url)) as run:
        for vendor in VENDORS:
            url = run.url + VALID[vendor][0]
            async with run.client.options(url, headers=asking(EVIL)) as leave:
                open_ = vendor in {"personaclick", "segment", "tracardi"}
                assert (leave.status == 204) is open_, vendor
                allowed = leave.headers.get("access-control-allow-origin")
                assert allowed == ("*" if open_ else None), vendor
                assert "access-control-allow-credentials" not in leave.headers


async def test_an_unknown_path_below_a_mount_can_be_read(tmp_path: Path) -> None:
    """A page that calls an unknown path below a mount can read the vendor's 404."""

    def config(sandbox: str) -> str:
        mounted = f'keys = "any"\nmount = "/shop"\norigins = ["{SHOP}"]'
        head, _, tail = everything(tmp_path, sandbox).partition("[destinations.")
        return head.replace('keys = "any"', mounted, 1) + "[destinations." + tail

    async with running(tmp_path, config) as run:
        url = f"{run.url}/shop/nothing/here"
        async with run.client.options(url, headers=asking(SHOP, "PUT")) as leave:
            assert leave.status == 204
            assert "PUT" in leave.headers["access-control-allow-methods"]
        async with run.client.put(url, headers={"origin": SHOP}) as answer:
            assert answer.status == 404
            assert answer.headers["access-control-allow-origin"] == SHOP


@pytest.mark.parametrize("vendor", VENDORS)
async def test_beacons_are_read_by_their_path(run: Running, vendor: str) -> None:
    """A beacon's body is read as the path's format, whatever its content type."""
    path, body = VALID[vendor]
    for label in (
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
        "",
    ):
        headers = {"origin": SHOP, "content-type": label, **CREDENTIALS[vendor]}
        async with run.client.post(
            run.url + path, data=orjson.dumps(body), headers=headers
        ) as answer:
            assert answer.status == 200, (label, await answer.text())
    await run.watch.until(lambda w: len(w.settled) >= 5 * len(VENDORS))
    assert all(v == Delivered() for _, to, v in run.watch.settled if to == vendor)


def tracked(folder: Path, more: str = "", to: str = "", server: str = PROXY) -> Any:
    """Return a function that makes a configuration: five vendors in, Tracardi and chrts out."""

    def config(sandbox: str) -> str:
        sources = "".join(
            f'[sources.{vendor}]\nvendor = "{vendor}"\nkeys = ["right"]\n{more}\n'
            for vendor in ("chrts", "quartic", "personaclick", "segment", "tracardi")
        )
        return (
            f'[server]\nlisten = "127.0.0.1:0"\ndrain_timeout = "1s"\n{server}\n'
            f'[spool]\npath = "{folder / "spool"}"\n{sources}'
            f"{destination('tracardi', to or sandbox)}{destination('chrts', to or sandbox)}"
            '[[routes]]\nto = ["tracardi", "chrts"]\n'
        )

    return config


async def send(run: Running, body: dict[str, Any], **headers: str) -> list[str]:
    """Send a track call to chrts' source, which accepts it; return the cookies that it sets."""
    known = {**CREDENTIALS["chrts"], **headers}
    async with run.client.post(f"{run.url}/event/track", json=body, headers=known) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers.getall("set-cookie", [])


async def delivered(run: Running, count: int) -> list[Event]:
    """Wait for *count* events at both destinations; return them as Tracardi's worker got them."""
    await run.watch.until(lambda w: len(w.settled) >= 2 * count)
    return [event for event, to, _ in run.watch.settled if to == "tracardi"]


NO_ADDRESS = "0.0.0.0"  # noqa: S104 - Segment's way to say that the address is nobody's business
NAMED = {"uid": "u-1", "name": "looked"}


async def test_a_page_s_events_have_the_browser_s_address(tmp_path: Path) -> None:
    """An event has the address and user agent of the browser behind the proxies."""
    async with running(tmp_path, tracked(tmp_path)) as run:
        await send(run, NAMED, **PAGE, **THROUGH)
        (event,) = await delivered(run, 1)
        (entry,) = await run.journal("tracardi")
    assert event.context.ip == "203.0.113.7"
    assert event.context.user_agent == PAGE["user-agent"]
    assert entry["body"]["events"][0]["context"]["ip"] == "203.0.113.7"


async def test_untrusted_proxies_are_ignored(tmp_path: Path) -> None:
    """Without trusted proxies the event has the connection's address, whatever the headers say."""
    async with running(tmp_path, tracked(tmp_path, server="")) as run:
        await send(run, NAMED, **PAGE, **THROUGH, forwarded="for=6.6.6.6")
        (event,) = await delivered(run, 1)
    assert event.context.ip == "127.0.0.1"


async def test_a_backend_s_address_is_not_the_user_s(tmp_path: Path) -> None:
    """A backend's events have no address and no user agent, unless `client = "user"`."""
    async with running(tmp_path, tracked(tmp_path)) as run:
        await send(run, NAMED, **{"user-agent": "backend/1", "sec-fetch-mode": "cors"})
        (event,) = await delivered(run, 1)
        assert (event.context.ip, event.context.user_agent) == (None, None)
    (tmp_path / "user").mkdir()
    async with running(tmp_path, tracked(tmp_path / "user", 'client = "user"')) as run:
        await send(run, NAMED, **{"user-agent": "app/1"}, **THROUGH)
        (event,) = await delivered(run, 1)
        assert (event.context.ip, event.context.user_agent) == ("203.0.113.7", "app/1")
    (tmp_path / "server").mkdir()
    async with running(tmp_path, tracked(tmp_path / "server", 'client = "server"')) as run:
        await send(run, NAMED, **PAGE, **THROUGH)
        (event,) = await delivered(run, 1)
        assert (event.context.ip, event.context.user_agent) == (None, None)


async def test_an_address_in_the_payload_is_kept(tmp_path: Path) -> None:
    """An address in the payload is kept, also the 0.0.0.0 that stands for none."""
    body = {
        "source": {"id": "right"},
        "profile": {"id": "p"},
        "events": [{"type": "seen", "context": {"ip": NO_ADDRESS}}, {"type": "seen"}],
    }
    async with running(tmp_path, tracked(tmp_path)) as run:
        url = f"{run.url}/track"
        async with run.client.post(url, json=body, headers={**PAGE, **THROUGH}) as answer:
            assert answer.status == 200
        events = await delivered(run, 2)
    assert [event.context.ip for event in events] == [NO_ADDRESS, "203.0.113.7"]


COOKIE = f'cookie = "_id"\norigins = ["{SHOP}"]'


async def test_a_restart_keeps_the_client(tmp_path: Path) -> None:
    """After a restart with another configuration an event still has its address and cookie id."""
    config = tracked(tmp_path, COOKIE, to="http://127.0.0.1:9")
    async with running(tmp_path, config) as run:
        cookies = await send(run, {"name": "looked"}, **PAGE, **THROUGH)
    async with running(tmp_path, tracked(tmp_path, 'client = "server"', server="")) as run:
        (event,) = await delivered(run, 1)
    assert event.context.ip == "203.0.113.7"
    assert event.context.user_agent == PAGE["user-agent"]
    assert event.anonymous_id == value(cookies).value


async def test_a_replay_keeps_the_client(tmp_path: Path) -> None:
    """A replayed dead letter has the address and the cookie id of its request."""
    async with running(tmp_path, tracked(tmp_path, COOKIE)) as run:
        await run.fault(vendor="tracardi", status=422, count=1)
        cookies = await send(run, {"name": "looked"}, **PAGE, **THROUGH)
        await delivered(run, 1)
        await eventually(partial(any_letter, run))
        with DeadLetterStore(tmp_path / "spool") as box:
            assert box.replay(ALL_DEAD_LETTERS) == 1
        await run.watch.until(lambda w: len(w.settled) >= 3)
        again, _, verdict = run.watch.settled[-1]
    assert verdict == Delivered()
    assert again.context.ip == "203.0.113.7"
    assert again.anonymous_id == value(cookies).value


async def any_letter(run: Running) -> bool:
    """Tell whether a dead letter exists."""
    return bool(await run.gateway.spool.dead_letters())


def value(cookies: list[str]) -> Morsel[str]:
    """Return the one cookie among *cookies*."""
    (cookie,) = SimpleCookie("; ".join(cookies)).values()
    return cookie


async def test_a_cookie_identifies_a_browser(tmp_path: Path) -> None:
    """A new browser gets a cookie whose id names its events; an id in the payload wins."""
    async with running(tmp_path, tracked(tmp_path, COOKIE)) as run:
        cookie = value(await send(run, {"name": "first"}, **PAGE, **THROUGH))
        again = value(
            await send(run, {"name": "second"}, **PAGE, cookie=f"_id={cookie.value}; a=b")
        )
        await send(
            run, {"anonymousId": "own", "name": "third"}, **PAGE, cookie=f"_id={cookie.value}"
        )
        events = await delivered(run, 3)
        stored = [
            item.entry.request for item in await run.gateway.spool.shards[0].entries([1, 2, 3])
        ]
        journal = await run.journal("chrts")
    assert uuid.UUID(cookie.value).version == 4
    assert cookie["httponly"]
    assert cookie["secure"]
    assert (cookie["samesite"], cookie["path"], cookie["domain"]) == ("Lax", "/", "")
    assert cookie["max-age"] == str(365 * 24 * 3600)
    assert again.value == cookie.value
    assert not again["secure"], "it came without TLS"
    named = {event.name: event.anonymous_id for event in events}
    assert named == {"first": cookie.value, "second": cookie.value, "third": "own"}
    assert [request.client_id for request in stored] == [cookie.value, cookie.value, ""]
    assert all("cookie" not in request.headers for request in stored)
    sent = {entry["body"]["name"]: entry["body"] for entry in journal}
    assert sent["first"]["anonymousId"] == cookie.value, "its own bytes would name nobody"
    assert sent["third"] == {"anonymousId": "own", "name": "third"}


@pytest.mark.parametrize("forged", ["a%20b", "x" * 129, "<script>", ""])
async def test_an_invalid_cookie_is_replaced(tmp_path: Path, forged: str) -> None:
    """A cookie value that cannot be an id is ignored and overwritten."""
    async with running(tmp_path, tracked(tmp_path, COOKIE)) as run:
        cookie = value(await send(run, {"name": "looked"}, **PAGE, cookie=f"_id={forged}"))
        (event,) = await delivered(run, 1)
    assert event.anonymous_id == cookie.value
    assert uuid.UUID(cookie.value)


async def test_backends_and_refused_requests_get_no_cookie(tmp_path: Path) -> None:
    """Neither a backend nor a refused request gets a cookie."""
    more = f'{COOKIE}\ncookie_domain = "shop.example"\ncookie_max_age = "30d"'
    async with running(tmp_path, tracked(tmp_path, more)) as run:
        assert await send(run, NAMED) == []
        url = f"{run.url}/event/track"
        for headers in (CREDENTIALS["chrts"], PAGE):
            async with run.client.post(url, json={"name": "x"}, headers=headers) as answer:
                assert answer.status in {400, 401}
                assert "set-cookie" not in answer.headers
        cookie = value(await send(run, NAMED, **PAGE))
        await delivered(run, 2)
    assert (cookie["domain"], cookie["max-age"]) == ("shop.example", "2592000")


async def test_every_vendor_accepts_the_cookie_as_the_user(tmp_path: Path) -> None:
    """With a cookie, a request without a user is accepted; its events have the cookie's id."""
    unnamed = {
        "personaclick": {"shop_id": "right", "event": "view", "items": [{"id": "1"}, {"id": "2"}]},
        "tracardi": {"source": {"id": "right"}, "events": [{"type": "a"}, {"type": "b"}]},
        "segment": {"writeKey": "right", "event": "looked"},
        "quartic": {
            "customer": "c", "eventType": "eventProductView", "timestamp": 1482840417,
            "productId": "101",
        },
    }  # fmt: skip
    async with running(tmp_path, tracked(tmp_path, COOKIE)) as run:
        for vendor, body in unnamed.items():
            headers = {**PAGE, **CREDENTIALS[vendor], "cookie": "_id=known-1"}
            url = run.url + VALID[vendor][0]
            async with run.client.post(url, json=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                if vendor == "tracardi":
                    assert (await answer.json())["profile"] == {"id": "known-1"}
        events = await delivered(run, 6)
    assert {event.anonymous_id for event in events} == {"known-1"}


async def test_a_reload_changes_origins_proxies_and_cookies(tmp_path: Path) -> None:
    """Origins, trusted proxies and cookies take effect with a reload."""
    async with running(tmp_path, tracked(tmp_path, server="")) as run:
        path = tmp_path / "gateway.toml"
        path.write_text(tracked(tmp_path, COOKIE)(run.sandbox))
        await run.gateway.apply(load(path, run.gateway.registry))
        assert value(await send(run, NAMED, **PAGE, **THROUGH)).key == "_id"
        (event,) = await delivered(run, 1)
        url = f"{run.url}/event/track"
        async with run.client.options(url, headers=asking(SHOP)) as leave:
            assert leave.status == 204
    assert event.context.ip == "203.0.113.7"


def test_every_vendor_is_configured() -> None:
    """The tables of this module have every vendor that the tests run."""
    assert set(BROWSER_HEADERS) == set(VENDORS) == set(SETTINGS)


async def test_tracing_headers_are_allowed(tmp_path: Path) -> None:
    """A preflight allows the headers of tracing tools, and those in `browser_headers`."""
    more = '\nbrowser_headers = ["X-Shop-Version"]'
    config = tracked(tmp_path, more)
    wanted = "content-type,traceparent,tracestate,sentry-trace,baggage,x-shop-version"
    async with running(tmp_path, config) as run:
        headers = {**asking(SHOP), "access-control-request-headers": wanted}
        async with run.client.options(f"{run.url}/v1/track", headers=headers) as leave:
            assert leave.status == 204
            allowed = leave.headers["access-control-allow-headers"].split(", ")
            assert {*wanted.split(",")} <= {*allowed}
