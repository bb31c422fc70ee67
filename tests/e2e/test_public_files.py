"""What a page loads before it sends: settings from the configuration, scripts from a CDN."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from yarl import URL

from tests.e2e.configs import base_config, destination, route, source
from tests.e2e.running import Running, running, serving

SCRIPT = "/analytics.js/v1/key-a/analytics.min.js"
PART = "/analytics-next/bundles/407.bundle.61efa1acb302134c434b.js"
PROXIED = {"x-forwarded-proto": "https", "host": "events.shop.example"}


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[tuple[Running, list[str]]]:
    """Run a gateway before a CDN; yield it, and what the CDN is asked for."""
    asked: list[str] = []

    async def file(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        headers = {"content-type": "text/javascript", "cache-control": "max-age=60"}
        return web.Response(body=request.path.encode(), headers=headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", file)
    async with serving(app) as cdn:

        def config(sandbox: str) -> str:
            of_cdn = f'cdn_url = "{cdn}"'
            of_package = f'mount = "/npm"\ncdn_url = "{cdn}/pkg/umd/"\ncdn_layout = "npm"'
            return (
                base_config(folder, server='trusted_proxies = ["127.0.0.1"]')
                + source("segment", "key-a", name="a", more=of_cdn)
                + source("segment", "key-b", name="b", more='url = "http://127.0.0.1:9"')
                + source("segment", "key-c", name="c", more=of_package)
                + destination("segment", sandbox)
                + route("segment")
            )

        async with running(folder, config) as run:
            yield run, asked


async def test_pages_load_everything_from_the_gateway(tmp_path: Path) -> None:
    """Settings name the address they are asked at; scripts come from the CDN, once."""
    async with gateway(tmp_path) as (run, asked):
        host = run.url.removeprefix("http://")
        for path, headers, key, address in (
            ("/v1/projects/key-a/settings", {}, "key-a", ("http", f"{host}/v1")),
            ("/v1/projects/key-b/settings", PROXIED, "key-b", ("https", "events.shop.example/v1")),
            (
                "/npm/v1/projects/key-c/settings", {"origin": "https://shop.example"}, "key-c",
                ("https", f"{host}/npm/v1"),
            ),
        ):  # fmt: skip
            async with run.client.get(run.url + path, headers=headers) as answer:
                assert answer.headers["cache-control"].startswith("private")
                if "origin" in headers:
                    assert answer.headers["access-control-allow-origin"] == "*"
                (name, sends), *others = (await answer.json())["integrations"].items()
            assert (name, others) == ("Segment.io", [])
            assert (sends["protocol"], sends["apiHost"]) == address
            assert sends["apiKey"] == key
        for path, at_cdn in (
            (f"{SCRIPT}?busts=1", SCRIPT),
            (PART, PART),
            ("/npm/analytics.js/v1/key-c/analytics.min.js", "/pkg/umd/standalone.js"),
            (f"/npm{PART}", f"/pkg/umd/{PART.rpartition('/')[2]}"),
        ):
            for method in ("GET", "GET", "HEAD"):
                async with run.client.request(method, run.url + path) as answer:
                    assert answer.status == 200
                    assert answer.content_length == len(at_cdn)
                    assert await answer.text() == (at_cdn if method == "GET" else "")
        assert asked == [
            SCRIPT, PART, "/pkg/umd/standalone.js", f"/pkg/umd/{PART.rpartition('/')[2]}",
        ]  # fmt: skip


async def test_rudderstacks_settings_name_no_destination(tmp_path: Path) -> None:
    """RudderStack's libraries find a source that is enabled, by the key in header or query."""
    async with gateway(tmp_path) as (run, asked):
        for query, basic in (("", "a2V5LWE6"), ("?writeKey=key-a&v=3.34.1", "")):
            headers = {"authorization": f"Basic {basic}"} if basic else {}
            async with run.client.get(f"{run.url}/sourceConfig/{query}", headers=headers) as answer:
                found = (await answer.json())["source"]
            assert (found["writeKey"], found["enabled"]) == ("key-a", True)
            assert found["destinations"] == []
        assert not asked


REFUSED = (
    ("GET", "/v1/projects/unknown/settings", 404),
    ("GET", "/analytics.js/v1/unknown/analytics.min.js", 404),
    ("GET", "/analytics.js/v1/key-b/analytics.min.js", 404),
    ("GET", "/analytics.js/v1/key-a/%2e%2e", 404),
    ("GET", "/analytics-next/bundles/..%2f..%2fsecret", 404),
    ("POST", "/v1/projects/key-a/settings", 405),
    ("GET", "/sourceConfig/?writeKey=unknown", 401),
    ("GET", "/sourceConfig/", 401),
)
"""Requests for what there is not, each with the status of the answer."""


async def test_what_there_is_not_is_refused(tmp_path: Path) -> None:
    """Unknown keys get the 404 of Segment's CDN; nothing but its files is fetched."""
    async with gateway(tmp_path) as (run, asked):
        for method, path, status in REFUSED:
            url = URL(f"{run.url}{path}", encoded=True)
            async with run.client.request(method, url) as answer:
                assert (path, answer.status) == (path, status), await answer.text()
        assert not asked
