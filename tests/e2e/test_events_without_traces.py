"""Events without a trace: the spool still knows where they are."""

import asyncio
from pathlib import Path

import pytest

from gateway.ingest.arrival import RequestIdGenerator, time_of_id
from gateway.spool.dead_letters import format_time
from gateway.trace.records import ALL_LINES
from tests.e2e.admin import Admin, administered
from tests.e2e.running import PATIENCE
from tests.e2e.stories import APP, QUIET, has_letter, printed, send, stands, until

DOWN = {"vendor": "chrts", "status": 503, "count": 1000}
SLOWLY = APP.replace("[[routes]]", 'retry_min = "1h"\nretry_max = "2h"\n[[routes]]')


async def test_an_unsampled_request_is_shown_while_it_is_pending(tmp_path: Path) -> None:
    """A request that was not sampled is shown in full from the spool, as long as it is pending."""
    async with administered(tmp_path, QUIET + APP) as admin:
        await admin.post("/destinations/mail/pause")
        request = await send(admin)
        deliveries = await until(admin, request, stands("crm", "finished"))
        assert deliveries["mail"]["reason"] == "An operator paused the destination."
        (story,) = (await admin.get(f"/request?id={request}-0"))["requests"]
        assert story["received"]["body"].startswith('{"writeKey": "***"')
        assert [one["route"] for one in story["events"][0]["decisions"]] == ["all"]
        (trace,) = (await admin.get(f"/trace?id={request}"))["traces"]
        assert trace["received"]["source"] == "app"
        lines = await printed(tmp_path, "trace", request)
        assert '"event": "Viewed"' in lines
        assert "mail: no attempt yet; it is pending in the spool" in lines
        assert "crm: it was delivered or declined at the first attempt; not sampled" in lines
        assert "write-key" not in lines
        await admin.post("/destinations/mail/resume")
        deliveries = await until(admin, request, stands("mail", "finished"))
        assert deliveries["mail"]["reason"].startswith(
            "It was delivered or declined at the first attempt"
        )


async def test_a_duplicate_shows_no_deliveries(tmp_path: Path) -> None:
    """In a batch, a duplicate event shows no deliveries, and the new event shows pending ones."""
    once = APP.replace("[destinations.crm]", 'dedup = "1h"\n[destinations.crm]')
    async with administered(tmp_path, QUIET + once) as admin:
        for to in ("crm", "mail"):
            await admin.post(f"/destinations/{to}/pause")
        await batch(admin, "m1")
        request = await batch(admin, "m1", "m2")
        (story,) = (await admin.get(f"/request?id={request}"))["requests"]
        lines = await printed(tmp_path, "trace", request, "--short")
    before, fresh = story["events"]
    assert before["deliveries"] == []
    assert [(one["destination"], one["outcome"]) for one in fresh["deliveries"]] == [
        ("crm", "pending"), ("mail", "pending"),
    ]  # fmt: skip
    assert lines.count("no attempt yet; it is pending in the spool") == 2


async def batch(admin: Admin, *messages: str) -> str:
    """Send events with these message ids; return the request's id."""
    calls = [{"type": "track", "userId": "u1", "event": m, "messageId": m} for m in messages]
    url = f"{admin.running.url}/v1/batch"
    body = {"writeKey": "write-key", "batch": calls}
    async with admin.running.client.post(url, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["x-gateway-request-id"]


async def test_an_id_without_data_shows_its_time(tmp_path: Path) -> None:
    """When nothing else is left, an id shows when its request arrived and if it was sampled."""
    plain, chosen = RequestIdGenerator().next(), RequestIdGenerator().next(traced=True)
    at = time_of_id(plain)
    assert at is not None
    async with administered(tmp_path, APP) as admin:
        await until(admin, await send(admin), stands("mail", "delivered"))
        said = await printed(tmp_path, "trace", plain, fails=True)
        status, problem = await admin.call("GET", f"/api/v1/request?id={plain}")
        late = await printed(tmp_path, "trace", f"{chosen}-0", fails=True)
    came = f"a request with this id arrived {format_time(at)} UTC"
    assert f"{came}, and was not sampled" in said
    assert "nothing of it is pending, and it has no dead letter" in said
    assert (status, f"Error: {problem['detail']}\n") == (404, said)
    assert "has expired" in late


async def test_a_waiting_event_shows_its_reason(tmp_path: Path) -> None:
    """A failed delivery shows its next attempt; the user's next event shows that it is parked."""
    async with administered(tmp_path, QUIET + SLOWLY) as admin:
        await admin.running.fault(**DOWN)
        first, second = await send(admin), await send(admin, "Bought")
        deliveries = await until(admin, first, stands("mail", "retry"))
        assert deliveries["mail"]["next_step"].startswith("Its next attempt is due at 20")
        lines = await printed(tmp_path, "trace", first, "--short")
        assert "its next attempt is due at 20" in lines
        behind = await until(
            admin,
            second,
            lambda deliveries: "behind" in deliveries.get("mail", {}).get("reason", ""),
        )
        assert behind["mail"]["outcome"] == "pending"
        assert behind["mail"]["reason"] == "It waits behind an earlier event of the same user."
        lines = await printed(tmp_path, "trace", second, "--short")
        assert "mail: no attempt yet; it waits behind an earlier event of the same user" in lines
        found = await admin.get(f"/trace?id={second}")
        stands_so = {one["destination"]: one for one in found["delivery_states"]}
        assert (stands_so["mail"]["pending"], stands_so["mail"]["parked"]) == (True, True)


async def test_a_pending_replay_differs_from_a_deleted_dead_letter(tmp_path: Path) -> None:
    """A dead letter that is gone shows as replayed while the replay is pending, else as deleted."""
    async with administered(tmp_path, QUIET + APP) as admin:
        await admin.running.fault(vendor="chrts", status=422, count=2)
        first, second = await send(admin), await send(admin, user="u2")
        letters = [
            (await until(admin, request, has_letter("mail")))["mail"]["dead_letter"]["id"]
            for request in (first, second)
        ]
        await admin.post("/destinations/mail/pause")
        await admin.post("/dead-letters/replay", {"ids": letters[:1]})
        await admin.post("/dead-letters/delete", {"ids": letters[1:]})
        deliveries = await until(admin, first, stands("mail", "dead_letter"))
        assert deliveries["mail"]["next_step"] == "Its dead letter was replayed, and is pending."
        assert "its dead letter was replayed" in await printed(tmp_path, "trace", first)
        deliveries = await until(admin, second, stands("mail", "dead_letter"))
        assert deliveries["mail"]["next_step"].startswith(
            "Its dead letter was deleted, or replayed without"
        )
        assert "its dead letter was deleted, or replayed without a trace" in await printed(
            tmp_path, "trace", second
        )


async def test_streamed_lines_are_not_counted_as_recorded(tmp_path: Path) -> None:
    """A live stream also shows unsampled requests; these are not recorded and not counted."""
    async with administered(tmp_path, QUIET + APP) as admin:
        observed = admin.running.gateway.observer
        with observed.hub.subscribe(ALL_LINES) as lines:
            request = await send(admin)
            async with asyncio.timeout(PATIENCE):
                async for batch in lines.batches():
                    if any(one.destination == "mail" for one in batch):
                        break
        assert batch[0].request == request
        assert (observed.recorder.recorded, observed.recorder.dropped) == (0, 0)


@pytest.mark.parametrize("identity", ["", "u1", "18ea32", "f" * 24, "0" * 24, "18ea31aa3ce97da3-1"])
def test_other_texts_have_no_time(identity: str) -> None:
    """A text that is no id of the gateway has no time."""
    assert time_of_id(identity) is None


def test_an_id_has_its_time() -> None:
    """The id of a request, or of its event, has the time at which it was made."""
    made = RequestIdGenerator().next()
    at = time_of_id(made)
    assert at is not None
    assert at == time_of_id(f"{made}-17")
    assert at == pytest.approx(int(made[:16], 16) / 1e9)
