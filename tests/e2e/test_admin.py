"""The admin API on a gateway that delivers."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import orjson
import pytest
from pydantic import SecretStr

from gateway.admin.auth import in_force
from gateway.admin.context import MOST
from gateway.admin.traces import SHOWN
from gateway.config.operations import AdminConfig
from gateway.spool import Balance
from gateway.spool.dead_letters import replay_reason
from gateway.trace.records import TraceLine
from gateway.verdict import Delivered
from tests.e2e.admin import AT, SETUP, TOKEN, Admin, administered, fill
from tests.e2e.configs import filled, route
from tests.e2e.process import ROOT
from tests.e2e.raw_http import vendor
from tests.e2e.running import PATIENCE, SettledEvents

CANARIES = ("canary", TOKEN, "api_chrts_test")
REFUSED = b"HTTP/1.1 500 Down\r\ncontent-length: 0\r\n\r\n"
ONE = SETUP.replace('to = ["crm", "mail"]', 'to = ["crm"]')
SLOW = ONE.replace("api_chrts_canary", 'api_chrts_canary"\nretry_min = "1h"\nretry_max = "2h')


async def send(admin: Admin, number: int) -> None:
    """Send an event to the gateway, of one of several users."""
    body = {"uid": f"u{number % 7}", "name": "counted", "properties": {"number": number}}
    headers = {"authorization": "Bearer api_chrts_test"}
    url = f"{admin.running.url}/event/track"
    async with admin.running.client.post(url, json=body, headers=headers) as answer:
        assert answer.status < 300, await answer.text()


async def letters(admin: Admin) -> list[dict[str, Any]]:
    """Return the dead letters."""
    found: list[dict[str, Any]] = (await admin.get("/dead-letters"))["dead_letters"]
    return found


def delivered(watch: SettledEvents, destination: str) -> int:
    """Return how many deliveries arrived."""
    return sum(isinstance(v, Delivered) and to == destination for _, to, v in watch.settled)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": "Bearer \udcff\udcfe"}, 401),
        ({"authorization": f"bearer {TOKEN}"}, 200),
    ],
)
async def test_the_token_is_needed(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """Every path of the API needs the token, and no response contains it."""
    async with administered(tmp_path) as admin:
        for path in ("/api/v1/destinations", "/api/v1/config", "/api/v1/nothing"):
            expected = 404 if status == 200 and path.endswith("nothing") else status
            found, said = await admin.call("GET", path, headers=headers)
            assert found == expected, said
            assert TOKEN not in orjson.dumps(said).decode()


async def test_a_reload_changes_the_token(tmp_path: Path) -> None:
    """After a reload the API accepts the new token and refuses the old one."""
    async with administered(tmp_path) as admin:
        path = tmp_path / "gateway.toml"
        path.write_text(path.read_text().replace(TOKEN, f"another-{TOKEN}"))
        await admin.post("/config/reload")
        assert (await admin.call("GET", "/api/v1/status"))[0] == 401
        headers = {"authorization": f"Bearer another-{TOKEN}"}
        assert (await admin.call("GET", "/api/v1/status", headers=headers))[0] == 200


async def test_a_reload_opens_nothing(tmp_path: Path) -> None:
    """A reload that removes `[admin]` or a token that is needed does not open the API."""
    loopback = AdminConfig(token=SecretStr(TOKEN))
    everywhere = AdminConfig(listen=":8081", token=SecretStr(TOKEN))
    assert in_force(loopback, AdminConfig()).token is None
    assert in_force(everywhere, AdminConfig()).token == SecretStr(TOKEN)
    async with administered(tmp_path) as admin:
        path = tmp_path / "gateway.toml"
        text = path.read_text()
        path.write_text(text.replace(text[text.index("[admin]") : text.index("[sources")], ""))
        assert (await admin.post("/config/reload"))["restart_required"] == ["[admin] listen"]
        status, said = await admin.call("GET", "/api/v1/status")
        assert (status, "no longer has [admin]" in said["detail"]) == (503, True)


async def test_an_admin_address_in_use_stops_the_start(tmp_path: Path) -> None:
    """The gateway does not start when its admin address is in use."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    path = tmp_path / "gateway.toml"
    setup = SETUP.replace(
        '[admin]\nlisten = "127.0.0.1:0"', f'[admin]\nlisten = "127.0.0.1:{port}"'
    )
    path.write_text(filled(setup, tmp_path, "http://127.0.0.1:9"))
    command = (sys.executable, "-m", "gateway", "run", "--config", str(path))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=PIPE)
    async with asyncio.timeout(PATIENCE):
        _, said = await process.communicate()
    server.close()
    assert process.returncode == 1
    assert b"start_failed" in said


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:8081", 200), ("10.0.0.7:8081", 200),
        ("gateway.example:443", 200), ("Gateway.Example", 200), ("evil.example", 421),
        ("localhost.evil.example", 421), ("127.0.0.1.evil.example:8081", 421), ("", 421),
        ("[fe80::1%25lo]", 421), ("[::1%lo]", 421), ("[::1%lo]:8081", 421), ("::1%lo", 421),
        ("[fe80::1%25evil.example]:8081", 421), ("[::1", 421), ("::1]", 421), ("[127.0.0.1]", 421),
        ("[[::1]]", 421), ("[::ffff:127.0.0.1]:1", 200), ("127.0.0.1:", 200),
    ],
)  # fmt: skip
async def test_unknown_hosts_are_refused(tmp_path: Path, host: str, status: int) -> None:
    """A request for a host that is not configured gets 421, even with the right token."""
    setup = SETUP.replace("token =", 'hosts = ["gateway.example"]\ntoken =')
    async with administered(tmp_path, setup) as admin:
        headers = {"authorization": f"Bearer {TOKEN}", "host": host}
        found, _ = await admin.call("GET", "/api/v1/status", headers=headers)
        assert found == status


async def test_pages_of_other_origins_change_nothing(tmp_path: Path) -> None:
    """A change needs a header that a page of another origin can send only after a preflight."""
    setup = SETUP.replace(f'token = "{TOKEN}"', "")
    async with administered(tmp_path, setup) as admin:
        path = "/api/v1/destinations/crm/pause"
        assert (await admin.call("POST", path, headers={}))[0] == 403
        from_a_page = {"x-gateway-admin": "1", "sec-fetch-site": "cross-site"}
        assert (await admin.call("POST", path, headers=from_a_page))[0] == 403
        asking = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        async with admin.running.client.options(f"{admin.url}{path}", headers=asking) as answer:
            assert answer.status == 405
            assert not [name for name in answer.headers if name.lower().startswith("access-")]
        assert (await admin.get("/destinations/crm"))["state"] == "delivering"
        assert (await admin.call("POST", path, headers={"x-gateway-admin": "1"}))[0] == 200


@pytest.mark.usefixtures("each_spool")
async def test_a_paused_destination_keeps_its_backlog(tmp_path: Path) -> None:
    """A paused destination gets nothing, others do; after a resume its backlog arrives in order."""
    async with administered(tmp_path) as admin:
        watch = admin.running.watch
        assert (await admin.post("/destinations/crm/pause"))["state"] == "paused"
        for number in range(20):
            await send(admin, number)
        await watch.until(lambda w: delivered(w, "mail") == 20)
        assert delivered(watch, "crm") == 0
        found = await admin.get("/destinations/crm")
        assert (found["state"], found["backlog"]) == ("paused", 20)
        assert found["oldest"] is not None
        assert (await admin.call("POST", "/api/v1/destinations/crm/drain"))[0] == 409
        assert (await admin.post("/destinations/crm/resume"))["state"] == "delivering"
        await watch.until(lambda w: delivered(w, "crm") == 20)
        sent = [e["body"]["properties"]["number"] for e in await admin.running.journal("chrts")]
        assert sorted(sent) == list(range(20))
        assert all(sent.index(number) < sent.index(number + 7) for number in range(13))


@pytest.mark.usefixtures("each_spool")
async def test_a_pause_outlives_reloads_and_restarts(tmp_path: Path) -> None:
    """A pause lasts through a reload and a restart, until an operator resumes the destination."""
    async with administered(tmp_path) as admin:
        await admin.post("/destinations/crm/pause")
        path = tmp_path / "gateway.toml"
        path.write_text(path.read_text().replace("api_chrts_canary", "api_chrts_canary_2"))
        assert (await admin.post("/config/reload"))["changed"] == ["destinations.crm"]
        assert (await admin.get("/destinations/crm"))["state"] == "paused"
        await send(admin, 1)
        await admin.running.watch.until(lambda w: delivered(w, "mail") == 1)
    async with administered(tmp_path) as admin:
        found = await admin.get("/destinations/crm")
        assert (found["state"], found["backlog"]) == ("paused", 1)
        await admin.post("/destinations/crm/resume")
        await admin.running.watch.until(lambda w: delivered(w, "crm") == 1)


@pytest.mark.parametrize("act", ["pause", "resume", "drain"])
async def test_a_command_for_a_removed_destination_gets_404(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """A command for a destination that a reload removes meanwhile gets 404."""
    async with administered(tmp_path) as admin:
        gateway = admin.context.gateway
        asked = gateway.spool.balances
        path = tmp_path / "gateway.toml"
        gone = path.read_text().partition("[destinations.mail]")[0] + '[[routes]]\nto = ["crm"]\n'

        async def meanwhile() -> dict[str, Balance]:
            path.write_text(gone)
            await admin.context.reloading.reload_now()
            return await asked()

        monkeypatch.setattr(gateway.spool, "balances", meanwhile)
        status, said = await admin.call("POST", f"/api/v1/destinations/mail/{act}")
        assert status == 404, said


@pytest.mark.usefixtures("each_spool")
async def test_a_drain_waits_for_nothing(tmp_path: Path) -> None:
    """A drain tries retries that wait for an hour, and an open circuit, at once."""
    async with vendor() as down:
        down.answer = REFUSED
        async with administered(tmp_path, SLOW, down.url) as admin:
            for number in range(12):
                await send(admin, number)
            await admin.running.watch.until(lambda _: len(down.got) >= 5)
            async with asyncio.timeout(PATIENCE):
                while (found := await admin.get("/destinations/crm"))["state"] != "open":
                    pass
            assert found["reason"].startswith("HTTP 500")
            down.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            await admin.post("/destinations/crm/drain")
            await admin.running.watch.until(lambda w: delivered(w, "crm") == 12)
            found = await admin.get("/destinations/crm")
            assert (found["state"], found["reason"]) == ("delivering", "")


async def test_dead_letters_are_grouped_by_reason(tmp_path: Path) -> None:
    """Reasons that differ only in numbers form one group, and the group finds its dead letters."""
    await fill(tmp_path / "spool", 12)
    async with administered(tmp_path) as admin:
        groups = (await admin.get("/dead-letter-groups"))["groups"]
        assert [(g["destination"], g["reason_pattern"], g["count"]) for g in groups] == [
            ("mail", "HTTP #: no product #", 4), ("crm", "HTTP #: no product #", 4),
            ("crm", "HTTP #: no such field", 2), ("mail", "HTTP #: no such field", 2),
        ]  # fmt: skip
        found = await admin.get(
            "/dead-letters?destination=crm&reason_pattern=HTTP+%23:+no+product+%23"
        )
        assert [letter["id"] for letter in found["dead_letters"]] == [1, 3, 7, 9]


async def test_dead_letters_come_in_pages(tmp_path: Path) -> None:
    """A page of dead letters says where the next one begins; the last page says null."""
    await fill(tmp_path / "spool", 12)
    async with administered(tmp_path) as admin:
        seen: list[int] = []
        after: int | None = 0
        while after is not None:
            page = await admin.get(f"/dead-letters?limit=5&after={after}")
            seen += [letter["id"] for letter in page["dead_letters"]]
            after = page["next"]
        assert seen == list(range(1, 13))
        assert (await admin.call("GET", "/api/v1/dead-letters/4711"))[0] == 404


async def test_a_replay_delivers_again(tmp_path: Path) -> None:
    """Dead letters that are replayed, by ids or by filter, arrive and leave the list."""
    await fill(tmp_path / "spool", 12)
    async with administered(tmp_path) as admin:
        assert await admin.post("/dead-letters/replay", {"ids": [1, 2]}) == {
            "moved": 2,
            "next": None,
            "replay": 1,
        }
        body = {"filter": {"destination": "crm", "reason": "no product"}}
        assert (await admin.post("/dead-letters/replay", body))["moved"] == 3
        await admin.running.watch.until(
            lambda w: (delivered(w, "crm"), delivered(w, "mail")) == (4, 1)
        )
        assert await admin.post("/dead-letters/delete", {"filter": {}}) == {
            "moved": 7,
            "next": None,
            "replay": None,
        }
        assert (await admin.get("/dead-letters"))["dead_letters"] == []


async def test_a_filter_moves_in_portions(tmp_path: Path) -> None:
    """A filter that matches many dead letters deletes 200 per call, each once."""
    await fill(tmp_path / "spool", 450)
    async with administered(tmp_path) as admin:
        moved: list[int] = []
        after: int | None = 0
        while after is not None:
            found = await admin.post("/dead-letters/delete", {"filter": {}, "after": after})
            moved.append(found["moved"])
            after = found["next"]
        assert moved == [200, 200, 50]


async def test_a_replay_says_what_became_of_them(tmp_path: Path) -> None:
    """A replay counts what was delivered and what is a dead letter again, over several calls."""
    await fill(tmp_path / "spool", 9)
    async with administered(tmp_path) as admin:
        await admin.running.fault(vendor="chrts", status=422, count=2)
        which = {"destination": "crm", "until": time.time()}
        body: dict[str, Any] = {"filter": which, "limit": 2}
        moved = 0
        following: int | None = 0
        while following is not None:
            found = await admin.post("/dead-letters/replay", body | {"after": following})
            body["replay"], following = found["replay"], found["next"]
            moved += found["moved"]
        assert moved == 5
        path = f"/dead-letters/replays/{body['replay']}"
        async with asyncio.timeout(PATIENCE):
            while sum((ends := await admin.get(path)).values()) < 5:  # noqa: ASYNC110 - a page polls
                await asyncio.sleep(0.01)
        assert ends == {"delivered": 3, "declined": 0, "dead": 2}
        other = (await admin.post("/dead-letters/replay", {"ids": [2]}))["replay"]
        assert other == body["replay"] + 1
        assert (await admin.call("GET", "/api/v1/dead-letters/replays/99"))[0] == 404
        wrong = {"ids": [4], "replay": 99}
        status, problem = await admin.call("POST", "/api/v1/dead-letters/replay", wrong)
        assert (status, "no replay 99" in problem["detail"]) == (409, True)


def test_a_replayed_reason_does_not_nest() -> None:
    """A delivery that is replayed and waits names the reason of its last dead letter only."""
    assert replay_reason("refused", "HTTP 422") == "replayed, was refused: HTTP 422"
    again = replay_reason("overflow", "too many pending; replayed, was refused: HTTP 422")
    assert again == "replayed, was overflow: too many pending; HTTP 422"


async def test_an_evicted_event_has_its_name_and_user(tmp_path: Path) -> None:
    """A dead letter of an event that was never read has the event's name and its user."""
    bounded = ONE.replace(
        "api_chrts_canary", 'api_chrts_canary"\nmax_backlog = 1\non_full = "dead_letter'
    )
    async with administered(tmp_path, bounded) as admin:
        await admin.post("/destinations/crm/pause")
        for number in range(4):
            await send(admin, number)
        async with asyncio.timeout(PATIENCE):
            while len(found := await letters(admin)) < 3:  # noqa: ASYNC110 - a page polls
                await asyncio.sleep(0.01)
        assert [(one["cause"], one["event_name"], one["user"]) for one in found] == [
            ("overflow", "counted", f"u{number}") for number in range(3)
        ]
        detail = await admin.get(f"/dead-letters/{found[0]['id']}")
        assert detail["dead_letter"]["user"] == "u0"


async def test_no_credential_is_shown(tmp_path: Path) -> None:
    """No response of the API contains a credential of a client, of a destination or of the API."""
    await fill(tmp_path / "spool", 1)
    async with administered(tmp_path) as admin:
        for path in ("/status", "/spool", "/config", "/config/check", "/destinations",
                     "/dead-letters", "/dead-letters/1", "/openapi.json"):  # fmt: skip
            said = orjson.dumps(await admin.get(path)).decode()
            assert not [canary for canary in CANARIES if canary in said], path
        shown = await admin.get("/dead-letters/1")
        assert '"uid": "u0"' in shown["received"]["body"]
        assert shown["received"]["headers"]["authorization"] == "***"
        config = (await admin.get("/config"))["tables"]
        assert config["sources"]["shop"]["keys"] == ["***"]
        assert config["destinations"]["crm"]["api_key"] == "***"
        assert config["admin"]["token"] == "***"  # noqa: S105 - that is the point


async def test_a_reload_says_what_it_changed(tmp_path: Path) -> None:
    """A reload reports its changes; a file with problems changes nothing, and each is reported."""
    async with administered(tmp_path) as admin:
        path = tmp_path / "gateway.toml"
        good = path.read_text()
        assert (await admin.get("/config/check"))["differs"] is False
        mail_too = (await admin.get("/config"))["tables"]
        crm_only = [mail_too["routes"][0] | {"to": ["crm"]}]
        path.write_text(good.replace('"crm", "mail"', '"crm"'))
        found = await admin.get("/config/check")
        assert found["differs"] is True
        (warning,) = found["warnings"]
        assert "no route leads to it" in warning["text"]
        (file,) = found["files"]
        assert file["lines"][warning["line"] - 1] == "[destinations.mail]"
        assert found["changes"] == [
            {"path": "routes", "running": mail_too["routes"], "file": crm_only}
        ]
        assert await admin.post("/config/reload") == found["reload"] == {
            "added": [], "changed": ["routes.route 1"], "removed": [], "restart_required": []
        }  # fmt: skip
        path.write_text(good.replace('"mail"]', '"male"]').replace("api_key", "apikey"))
        checked = await admin.get("/config/check")
        assert len(checked["problems"]) == 3
        (file,) = checked["files"]
        lines = [file["lines"][one["line"] - 1] for one in checked["problems"]]
        assert 'to = ["crm", "male"]' in lines
        status, said = await admin.call("POST", "/api/v1/config/reload")
        assert (status, len(said["problems"])) == (422, 3)
        path.write_text(good)
        assert (await admin.get("/config/check"))["differs"] is True


async def test_the_spool_is_shown(tmp_path: Path) -> None:
    """The API shows the spool's size, and what it holds for removed destinations."""
    await fill(tmp_path / "spool", 4)
    without = SETUP[: SETUP.index("[destinations.mail]")] + route("crm")
    async with administered(tmp_path, without) as admin:
        found = await admin.get("/spool")
        assert found["bytes"] > 4096
        assert found["position"] == 4
        assert found["depths"]["crm"]["dead_letters"] == 2
        assert [(o["name"], o["depth"]["dead_letters"]) for o in found["orphans"]] == [("mail", 2)]


async def test_wrong_requests_get_a_problem(tmp_path: Path) -> None:
    """Every refusal is a problem by RFC 9457, and its detail says what is wrong and where."""
    async with administered(tmp_path) as admin:
        for method, path, body, status, said in (
            ("GET", "/dead-letters?limit=0", None, 400, "limit"),
            ("GET", "/dead-letters?limt=5", None, 400, "limt"),
            ("GET", "/dead-letters?after=1&after=2", None, 400, "occurs twice; give it once"),
            ("POST", "/dead-letters/delete", {}, 400, "give either ids or filter"),
            ("POST", "/dead-letters/delete", {"ids": ["1"]}, 400, "ids[0]"),
            ("POST", "/dead-letters/delete", {"ids": [1], "pad": "x" * 300_000}, 413, "Too Large"),
            ("GET", "/destinations/crm/pause", None, 405, "POST"),
            ("GET", "/nothing", None, 404, "openapi.json"),
            ("GET", "/destinations/cmr", None, 404, "did you mean crm?"),
        ):
            found, problem = await admin.call(method, f"/api/v1{path}", body)
            assert (found, problem["status"]) == (status, status), problem
            assert said in problem["detail"], problem
        url = f"{admin.url}/api/v1/dead-letters/delete"
        headers = {"authorization": f"Bearer {TOKEN}", "x-gateway-admin": "1"}
        async with admin.running.client.post(url, data=b"ids=1", headers=headers) as answer:
            assert answer.status == 415
            assert answer.content_type == "application/problem+json"


async def test_health_needs_no_token(tmp_path: Path) -> None:
    """Health and readiness need no token on the admin address."""
    async with administered(tmp_path) as admin, aiohttp.ClientSession() as client:
        for path in ("/healthz", "/readyz"):
            async with client.get(f"{admin.url}{path}") as answer:
                assert (answer.status, await answer.text()) == (200, "ok\n")
        admin.running.gateway.accepting = False
        async with client.get(f"{admin.url}/readyz") as answer:
            assert answer.status == 503
        admin.running.gateway.accepting = True


async def test_deliveries_are_streamed(tmp_path: Path) -> None:
    """The tail streams each delivery of the destination that it filters by, and no other."""
    async with administered(tmp_path) as admin:
        headers = {"authorization": f"Bearer {TOKEN}"}
        url = f"{admin.url}/api/v1/tail?destination=crm"
        async with admin.running.client.get(url, headers=headers) as stream:
            assert stream.content_type == "text/event-stream"
            assert (await stream.content.readline()).startswith(b":")
            await send(admin, 1)
            async with asyncio.timeout(PATIENCE):
                while not (said := await stream.content.readline()).startswith(b"data:"):
                    pass
        line = orjson.loads(said.removeprefix(b"data:"))
        assert (line["destination"], line["outcome"]) == ("crm", "delivered")


async def test_an_open_stream_does_not_delay_the_stop(tmp_path: Path) -> None:
    """An open stream does not delay the gateway's stop; the stream ends."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession() as client:
        async with administered(tmp_path) as admin:
            stream = await client.get(f"{admin.url}/api/v1/tail", headers=headers)
            assert stream.status == 200
        async with asyncio.timeout(PATIENCE):
            await stream.read()


async def test_streams_are_bounded(tmp_path: Path) -> None:
    """A stream past the limit gets 503, until one of the open streams is closed."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as client,
        administered(tmp_path) as admin,
    ):
        url = f"{admin.url}/api/v1/tail"
        opened = [await client.get(url) for _ in range(MOST)]
        assert {stream.status for stream in opened} == {200}
        async with client.get(url) as refused:
            assert refused.status == 503
            assert refused.content_type == "application/problem+json"
            assert int(refused.headers["retry-after"]) > 0
            assert str(MOST) in (await refused.json())["detail"]
        opened[0].close()
        async with asyncio.timeout(PATIENCE):
            while (stream := await client.get(url)).status != 200:
                stream.close()
        stream.close()
        for one in opened:
            one.close()


async def test_a_flooded_stream_leaves_lines_out(tmp_path: Path) -> None:
    """A stream shows a limited number of lines per second, and counts those that it leaves out."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with administered(tmp_path) as admin:
        url = f"{admin.url}/api/v1/tail"
        async with admin.running.client.get(url, headers=headers) as stream:
            await stream.content.readline()
            line = TraceLine(0, "event", AT, "r", "shop", "accepted")
            sent = SHOWN + 300
            admin.running.gateway.observer.hub.publish([line] * sent)
            shown, skipped = 0, 0
            async with asyncio.timeout(PATIENCE):
                while shown + skipped < sent:
                    said = await stream.content.readline()
                    shown += said == b"data: " + msgspec.json.encode(line) + b"\n"
                    if said.startswith(b'data: {"lines"'):
                        skipped += orjson.loads(said.removeprefix(b"data: "))["lines"]
            assert SHOWN <= shown <= 2 * SHOWN
            assert skipped > 0


async def test_a_deeply_nested_body_gets_a_4xx(tmp_path: Path) -> None:
    """JSON that is nested too deeply gets a problem with a 4xx status, at any depth."""
    headers = {"x-gateway-admin": "1", "content-type": "application/json"}
    headers["authorization"] = f"Bearer {TOKEN}"
    async with administered(tmp_path) as admin:
        for depth in (600, 5_000, 100_000):
            deep = b"[" * depth + b"]" * depth
            for path, body in (
                ("/explain", b'{"source":"shop","path":"POST /event/track","body":%s}' % deep),
                ("/dead-letters/delete", b'{"ids":%s}' % deep),
                ("/dead-letters/replay", deep),
            ):
                url = f"{admin.url}/api/v1{path}"
                async with admin.running.client.post(url, data=body, headers=headers) as answer:
                    assert 400 <= answer.status < 500, (path, depth)
                    assert answer.content_type == "application/problem+json"
                    assert (await answer.json())["detail"]


async def test_an_event_can_be_followed(tmp_path: Path) -> None:
    """Traces come newest first and in pages; one trace shows the request and its attempts."""
    async with administered(tmp_path) as admin:
        for number in range(5):
            await send(admin, number)
        await admin.running.watch.until(lambda w: delivered(w, "crm") == delivered(w, "mail") == 5)
        async with asyncio.timeout(PATIENCE):
            while not (await admin.call("GET", "/api/v1/traces?destination=mail&limit=5"))[1].get(
                "next"
            ):
                pass
        page = await admin.get("/traces?destination=mail&limit=3")
        rest = await admin.get(f"/traces?destination=mail&before={page['next']}")
        assert len({line["event"] for line in page["lines"] + rest["lines"]}) == 5
        (trace,) = (await admin.get(f"/trace?id={page['lines'][0]['event']}"))["traces"]
        assert trace["received"]["source"] == "shop"
        assert {tried["destination"] for tried in trace["attempts"]} == {"crm", "mail"}
        assert (await admin.call("GET", "/api/v1/trace?id=nobody"))[0] == 404


async def test_metrics_need_the_token(tmp_path: Path) -> None:
    """The metrics on the admin address need the token."""
    async with administered(tmp_path) as admin:
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with admin.running.client.get(f"{admin.url}/metrics", headers=headers) as answer:
            assert "cdp_gateway_backlog_requests" in await answer.text()
        async with admin.running.client.get(f"{admin.url}/metrics") as answer:
            assert answer.status == 401


async def test_the_overview_says_what_needs_attention(tmp_path: Path) -> None:
    """The overview lists problems first, in words, each with the page that is about it."""
    await fill(tmp_path / "spool", 3)
    async with vendor() as down:
        down.answer = REFUSED
        async with administered(tmp_path, SLOW, down.url) as admin:
            await admin.post("/destinations/mail/pause")
            for number in range(6):
                await send(admin, number)
            async with asyncio.timeout(PATIENCE):
                while (await admin.get("/destinations/crm"))["state"] != "open":
                    pass
            overview = await admin.get("/overview")
            found = overview["health"]["findings"]
            assert [(one["level"], one["page"]) for one in found] == [
                ("error", "destinations/crm"), ("warning", "destinations/mail"),
                ("note", "config"),
            ]  # fmt: skip
            assert (
                "chrts answers crm with errors, 6 pending, 2 dead letters" in (found[0]["headline"])
            )
            assert found[0]["detail"] == "HTTP 500"
            assert [one["destination"]["pending"] for one in overview["destinations"]] == [6, 0]
            assert "mail is paused by an operator" in found[1]["headline"]


async def test_the_last_day_survives_a_restart(tmp_path: Path) -> None:
    """The window has totals, points and delays, and goes on after a restart."""
    for run in (1, 2):
        async with administered(tmp_path) as admin:
            for number in range(5):
                await send(admin, number)
            await admin.running.watch.until(lambda w: delivered(w, "crm") == 5)
            found = await admin.get("/activity?window=24h")
        if run == 1:
            assert (found["interval"], len(found["accepted"])) == (900, 96)
            assert sum(found["accepted"]) == found["sources"]["shop"]["accepted"] == 5
            crm = found["destinations"]["crm"]
            assert (crm["delivered"], crm["failed"], crm["failed_share"]) == (5, 0, 0)
            assert crm["delivered_points"][-1] == 5
            assert 0 < crm["delay_p50"] <= crm["delay_p95"] < PATIENCE
    assert sum(found["accepted"]) == found["destinations"]["crm"]["delivered"] == 10


async def test_the_last_hour_is_sampled(tmp_path: Path) -> None:
    """A sample has the rates per second since the sample before."""
    async with administered(tmp_path) as admin:
        assert (await admin.get("/history"))["destinations"] == {"crm": [], "mail": []}
        context = admin.context
        await context.series.sample()
        for number in range(10):
            await send(admin, number)
        await admin.running.watch.until(lambda w: delivered(w, "crm") == 10)
        await context.series.sample()
        history = await admin.get("/history")
        assert history["sources"]["shop"][-1]["accepted"] > 0
        last = history["destinations"]["crm"][-1]
        assert last["delivered"] > 0
        assert last["failed"] == 0
        assert 0 < last["latency_mean"] < last["latency_p95"] * 20


async def test_vendors_tables_are_shown(tmp_path: Path) -> None:
    """A vendor's page has its tables' rows, and the vendor's word for each event."""
    async with administered(tmp_path) as admin:
        names = [one["name"] for one in (await admin.get("/vendors"))["vendors"]]
        assert "personaclick" in names
        for name in names:
            found = await admin.get(f"/vendors/{name}")
            assert all(table["rows"] for table in found["tables"]), name
        (push, *_) = (await admin.get("/vendors/personaclick"))["tables"]
        assert {"word": "view", "event": "Product Viewed"} in push["meanings"]
        assert "context.page.url" in [row["event"] for row in push["rows"]]
        assert (await admin.call("GET", "/api/v1/vendors/nobody"))[0] == 404
