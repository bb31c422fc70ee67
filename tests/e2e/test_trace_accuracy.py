"""A trace shows only facts, also for unsampled requests and after later changes."""

import asyncio
from pathlib import Path

import apsw

from tests.e2e.admin import administered
from tests.e2e.raw_http import exchange
from tests.e2e.running import PATIENCE
from tests.e2e.stories import APP, QUIET, has_letter, printed, send, stands, until


async def test_the_end_of_a_failed_delivery_is_recorded(tmp_path: Path) -> None:
    """For an unsampled request, a success after a failed attempt is recorded as the failure is."""
    async with administered(tmp_path, QUIET + APP) as admin:
        await admin.running.fault(vendor="growlytics", status=503, count=1)
        deliveries = await until(admin, await send(admin), stands("crm", "delivered"))
    assert [one["outcome"] for one in deliveries["crm"]["attempts"]] == ["retry", "delivered"]


async def test_the_end_of_a_replay_is_recorded(tmp_path: Path) -> None:
    """A replayed dead letter of an unsampled request is shown as delivered, by a replay."""
    async with administered(tmp_path, QUIET + APP) as admin:
        await admin.running.fault(vendor="growlytics", status=422, count=1)
        request = await send(admin)
        deliveries = await until(admin, request, has_letter("crm"))
        await admin.post("/dead-letters/replay", {"ids": [deliveries["crm"]["dead_letter"]["id"]]})
        deliveries = await until(admin, request, stands("crm", "delivered"))
        lines = await printed(tmp_path, "trace", request, "--short")
    assert (deliveries["crm"]["dead_letter"], deliveries["crm"]["next_step"]) == (None, "")
    assert "crm, attempt 1: HTTP 422" in lines
    assert "crm, attempt 1 of a replay: HTTP 200" in lines


async def test_an_unsampled_delivery_is_not_shown_as_pending(tmp_path: Path) -> None:
    """A success without a record is not shown as pending while other events are pending."""
    async with administered(tmp_path, QUIET + APP) as admin:
        await admin.running.fault(vendor="growlytics", status=422, count=1)
        request = await send(admin)
        watch = admin.running.watch
        await watch.until(lambda seen: len(seen.settled) == 2)
        await until(admin, request, stands("mail", "finished"))
        async with asyncio.timeout(PATIENCE):
            while not (await admin.get("/traces?failed=true"))["lines"]:
                pass
        await admin.post("/destinations/mail/pause")
        other = await send(admin, "Another")
        deliveries = await until(admin, request, stands("mail", "finished"))
        assert deliveries["mail"]["reason"].startswith(
            "It was delivered or declined at the first attempt"
        )
        lines = await printed(tmp_path, "trace", request, "--short")
        assert "mail: it was delivered or declined at the first attempt; not sampled" in lines
        deliveries = await until(admin, other, stands("mail", "pending"))
        assert deliveries["mail"]["reason"] == "An operator paused the destination."
        lines = await printed(tmp_path, "trace", other, "--short")
        assert "mail: no attempt yet; it is pending in the spool" in lines


async def test_the_backlog_of_a_removed_destination_is_shown(tmp_path: Path) -> None:
    """After a reload without a destination its pending deliveries are shown, with the reason."""
    async with administered(tmp_path, APP) as admin:
        for to in ("crm", "mail"):
            await admin.post(f"/destinations/{to}/pause")
        request = await send(admin)
        await until(admin, request, lambda deliveries: len(deliveries) == 2)
        config = tmp_path / "gateway.toml"
        without = config.read_text().partition("[destinations.mail]")[0]
        config.write_text(f'{without}[[routes]]\nname = "all"\nto = ["crm"]\n')
        assert (await admin.post("/config/reload"))["removed"] == ["destinations.mail"]
        deliveries = await until(admin, request, lambda deliveries: "mail" in deliveries)
    assert (deliveries["mail"]["outcome"], deliveries["crm"]["outcome"]) == ("pending", "pending")
    assert deliveries["mail"]["reason"].startswith("The destination is no longer configured")


async def test_expired_deliveries_of_a_removed_destination_are_recorded(tmp_path: Path) -> None:
    """An expired delivery is in the traces, also when its destination is no longer configured."""
    old = APP.replace('spool"\n', 'spool"\nmax_age = "2s"\n')
    async with administered(tmp_path, old) as admin:
        for to in ("crm", "mail"):
            await admin.post(f"/destinations/{to}/pause")
        request = await send(admin)
        config = tmp_path / "gateway.toml"
        without = config.read_text().partition("[destinations.mail]")[0]
        config.write_text(f'{without}[[routes]]\nname = "all"\nto = ["crm"]\n')
        await admin.post("/config/reload")
        given_up: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE):
            while len(given_up) < 2:
                lines = (await admin.get("/traces?failed=true"))["lines"]
                given_up = {line["destination"]: line["reason"] for line in lines}
        deliveries = await until(admin, request, stands("crm", "dead_letter"))
    assert given_up == dict.fromkeys(("crm", "mail"), "expired: pending for more than 2 s")
    assert deliveries["crm"]["vendor"] == "growlytics"


async def test_several_deliveries_to_one_destination_are_separate(tmp_path: Path) -> None:
    """When two routes deliver an event to one destination, each delivery has its own outcome."""
    twice = '[[routes]]\nto = ["crm"]\nadditional = true\n'
    async with administered(tmp_path, APP + twice) as admin:
        await admin.running.fault(vendor="growlytics", status=422, count=1)
        request = await send(admin)
        async with asyncio.timeout(PATIENCE):
            while True:
                status, found = await admin.call("GET", f"/api/v1/request?id={request}")
                deliveries = (
                    found["requests"][0]["events"][0]["deliveries"] if status == 200 else []
                )
                stands = sorted((one["destination"], one["outcome"]) for one in deliveries)
                if deliveries and {outcome for _, outcome in stands} <= {
                    "dead_letter",
                    "delivered",
                }:
                    break
    assert stands == [("crm", "dead_letter"), ("crm", "delivered"), ("mail", "delivered")]
    assert all(len(one["attempts"]) == 1 for one in deliveries)


DEPTH = 1015
"""Levels of nesting that orjson reads, and neither orjson nor Python can process further."""


async def test_a_deeply_nested_body_is_shown(tmp_path: Path) -> None:
    """A body nested deeper than Python's stack breaks no page, command or dead letter."""
    steps = '[[routes]]\nname = "less"\nto = ["mail"]\nadditional = true\n'
    steps += 'steps = [{ drop = ["properties.colour"] }]\n'
    setup = APP.replace('to = ["crm", "mail"]', 'to = ["mail"]')
    async with administered(tmp_path, QUIET + setup + steps) as admin:
        run = admin.running
        deep = '{"x":' * DEPTH + "1" + "}" * DEPTH
        body = '{"writeKey":"write-key","userId":"u1","event":"Deep","properties":{"colour":"red",'
        async with run.client.post(f"{run.url}/v1/track", data=f'{body}"x":{deep}}}}}') as answer:
            request = answer.headers["x-gateway-request-id"]
        async with asyncio.timeout(PATIENCE):
            while len((await admin.get("/traces?destination=mail&failed=true"))["lines"]) < 2:
                pass
        deliveries = await until(admin, request, has_letter("mail"))
        number = deliveries["mail"]["dead_letter"]["id"]
        letter = await admin.get(f"/dead-letters/{number}")
        lines = await printed(tmp_path, "trace", request)
        shown = await printed(tmp_path, "dead-letters", "show", str(number))
    assert "nested too deeply" in letter["received"]["unread"]
    assert "mail; dead letter: unrenderable" in lines
    assert "nested too deeply to be shown" in shown


async def test_unusual_values_are_shown(tmp_path: Path) -> None:
    """Long numbers, escape sequences and headers that are not UTF-8 break no page or command."""
    said = (
        b'{"writeKey":"write-key","userId":"\\u001b[31mu","event":"\\ud800\\u0000x","properties":'
        b'{"price":1.00000000000000000000001,"huge":123456789012345678901234567890,"tiny":1e-999}}'
    )
    head = [b"POST /v1/track HTTP/1.1", b"host: h", b"content-length: %d" % len(said)]
    head += [b"authorization: Basic \xff\xed\xa0\x80", b"user-agent: \xed\xa0\x80\x9b31m"]
    async with administered(tmp_path, APP) as admin:
        sent = b"\r\n".join([*head, b"connection: close", b"", said])
        answer = await exchange(admin.running.url, sent)
        assert answer.startswith(b"HTTP/1.1 200 ")
        request = answer.lower().partition(b"x-gateway-request-id: ")[2][:24].decode()
        await until(admin, request, stands("mail", "delivered"))
        status, traced = await admin.call("GET", f"/api/v1/trace?id={request}")
        lines = await printed(tmp_path, "trace", request)
    assert status == 200
    assert traced["traces"][0]["received"]
    assert "123456789012345678901234567890" in lines
    assert all(line.isprintable() for line in lines.splitlines())


async def test_a_user_id_that_equals_an_event_id_is_separate(tmp_path: Path) -> None:
    """A dead letter found by its event's id is not mixed with a user's requests of the same id."""
    async with administered(tmp_path, APP) as admin:
        await admin.post("/destinations/mail/pause")
        await admin.running.fault(vendor="growlytics", status=422, count=1)
        victim = await send(admin)
        await until(admin, victim, stands("crm", "dead_letter"))
        other = await send(admin, user=f"{victim}-0")
        await until(admin, other, stands("crm", "delivered"))
        file = apsw.Connection(str(tmp_path / "spool/traces.db"))
        file.set_busy_timeout(5000)
        file.execute("DELETE FROM record WHERE request = ?", (victim,))
        file.close()
        found = await admin.get(f"/trace?id={victim}-0")
    requests = {one["request"]: one for one in found["traces"]}
    assert list(requests) == [victim, other]
    for request, trace in requests.items():
        assert {one["request"] for one in trace["events"]} == {request}


async def test_credentials_in_names_are_redacted_in_dead_letters(tmp_path: Path) -> None:
    """A configured key used as a name of an event, user or field is redacted in the API."""
    async with administered(tmp_path, APP) as admin:
        await admin.running.fault(vendor="growlytics", status=422, count=1)
        keys = ("growlytics-sandbox-key", "api_chrts_sandbox")
        request = await send(admin, *keys)
        deliveries = await until(admin, request, has_letter("crm"))
        number = deliveries["crm"]["dead_letter"]["id"]
        paths = (f"/trace?id={request}", f"/request?id={request}", "/dead-letters")
        found = [await admin.get(path) for path in (*paths, f"/dead-letters/{number}")]
    assert found[2]["dead_letters"][0]["event_name"] == "***"
    assert not [key for key in keys if key in str(found)]
