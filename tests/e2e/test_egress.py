"""Destinations behind a proxy and behind mutual TLS, in a running gateway."""

import asyncio
import ssl
from pathlib import Path
from typing import Self

import aiohttp
import pytest
import trustme
from aiohttp import web

from tests.e2e.configs import base_config
from tests.e2e.process import gateway_process
from tests.e2e.running import PATIENCE
from tests.e2e.test_crash import post
from tests.e2e.test_reload import hang_up
from tests.gateway.connect_proxy import connect_proxy

ACCEPTED = {"success": True, "status": True, "code": 200}
PASSWORD = "CANARY-proxy"  # noqa: S105 - of the proxy that the tests run


class Vendor:
    """A vendor that accepts every event and demands a certificate of its clients.

    Attributes:
        got: the headers of each request, with the name on the client's certificate.
    """

    def __init__(self, server: trustme.CA, clients: trustme.CA) -> None:
        self.got: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.issue_cert("127.0.0.1").configure_cert(self.tls)
        clients.configure_trust(self.tls)
        self.tls.verify_mode = ssl.CERT_REQUIRED
        self.address = ""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._accept)
        self._runner = web.AppRunner(app)

    async def _accept(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        shown = request.transport.get_extra_info("peercert")
        name = shown["subjectAltName"][0][1] if shown else ""
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.got.put_nowait({"certificate": name, **headers})
        return web.json_response(ACCEPTED)

    async def __aenter__(self) -> Self:
        """Listen on a free port of the loopback address."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def next(self) -> dict[str, str]:
        """Return the next request's headers."""
        return await asyncio.wait_for(self.got.get(), PATIENCE)


def issue(clients: trustme.CA, name: str, folder: Path) -> None:
    """Write a client's certificate and its key."""
    issued = clients.issue_cert(name)
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")


async def test_a_vendor_behind_a_proxy_and_mutual_tls(tmp_path: Path) -> None:
    """Events wait while the proxy refuses, arrive once it does not, and show a renewed certificate.

    The log names the proxy, and no line has its password.
    """
    server, clients = trustme.CA(), trustme.CA()
    server.cert_pem.write_to_path(tmp_path / "ca.pem")
    issue(clients, "old@shop.example", tmp_path)
    path = tmp_path / "gateway.toml"
    async with (
        Vendor(server, clients) as vendor, connect_proxy(f"gate:{PASSWORD}") as proxy,
        aiohttp.ClientSession() as client,
    ):  # fmt: skip
        url = f"http://gate:PASSWORD@{proxy.address}"
        (tmp_path / "proxy").write_text(url.replace("PASSWORD", "CANARY-wrong"))
        path.write_text(
            base_config(tmp_path)
            + '[sources.shop]\nvendor = "chrts"\nkeys = ["api_chrts_test"]\n'
            + f'[destinations.crm]\nvendor = "chrts"\nurl = "https://{vendor.address}"\n'
            + 'api_key = "api_chrts_own"\nretry_min = "50ms"\nretry_max = "200ms"\n'
            + f'proxy = "file:{tmp_path}/proxy"\n'
            + f'ca = "{tmp_path}/ca.pem"\ncert = "{tmp_path}/client.pem"\n'
            + 'headers = { X-Tenant = "shop-1" }\n[[routes]]\nto = ["crm"]\n'
        )
        async with gateway_process(path) as gateway:
            await post(client, gateway.url, 1)
            failed = await gateway.after(0, "delivery", lambda line: "reason" in line)
            assert f"through proxy {proxy.address}: " in str(failed["reason"])
            assert "status 407" in str(failed["reason"])
            assert vendor.got.empty()
            (tmp_path / "proxy").write_text(url.replace("PASSWORD", PASSWORD))
            assert (await hang_up(gateway, "reloaded"))["changed"] == ["destinations.crm"]
            got = await vendor.next()
            assert (got["certificate"], got["x-tenant"]) == ("old@shop.example", "shop-1")
            assert "proxy-authorization" not in got
            assert (await hang_up(gateway, "reloaded"))["changed"] == []
            issue(clients, "new@shop.example", tmp_path)
            assert (await hang_up(gateway, "reloaded"))["changed"] == ["destinations.crm"]
            await post(client, gateway.url, 2)
            assert (await vendor.next())["certificate"] == "new@shop.example"
            (tmp_path / "client.pem").write_text("half a file")
            problems = (await hang_up(gateway, "reload_failed"))["problems"]
            assert "cert: " in str(problems)
            await post(client, gateway.url, 3)
            assert (await vendor.next())["certificate"] == "new@shop.example"
            assert "CANARY" not in str(gateway.lines)
        assert set(proxy.targets) == {vendor.address}


async def test_calls_are_relayed_through_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source's ``proxy`` carries relayed calls; its refusal is no answer of the vendor."""
    server = trustme.CA()
    server.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    path = tmp_path / "gateway.toml"
    async with (
        Vendor(server, trustme.CA()) as vendor, connect_proxy(f"gate:{PASSWORD}") as proxy,
        aiohttp.ClientSession() as client,
    ):  # fmt: skip
        vendor.tls.verify_mode = ssl.CERT_NONE
        path.write_text(
            base_config(tmp_path)
            + '[sources.shop]\nvendor = "personaclick"\nkeys = ["key-1"]\n'
            + f'url = "https://{vendor.address}"\n'
            + f'proxy = "http://gate:{PASSWORD}@{proxy.address}"\n'
            + '[destinations.none]\nvendor = "chrts"\napi_key = "api_chrts_own"\n'
            + 'url = "http://127.0.0.1:9"\n[[routes]]\nto = ["none"]\n'
        )
        async with gateway_process(path) as gateway:
            call = f"{gateway.url}/search?shop_id=key-1&search_query=shoes"
            for _ in range(2):
                async with client.get(call) as answer:
                    assert (answer.status, await answer.json()) == (200, ACCEPTED)
                assert not any("proxy" in name for name in await vendor.next())
            path.write_text(path.read_text().replace(PASSWORD, "CANARY-wrong"))
            await hang_up(gateway, "reloaded")
            async with client.get(call) as answer:
                assert answer.status == 503
                assert "CANARY" not in f"{answer.headers} {await answer.text()}"
            failed = await gateway.saw("relay_failed")
            assert failed["cause"] == "the proxy opens no tunnel (status 407)"
            assert vendor.got.empty()
            assert "CANARY" not in str(gateway.lines)
        assert set(proxy.targets) == {vendor.address}
